"""Every benchmark of the table in docs/speed.md, one after the other, in a process each.

    python benchmarks/table.py --data simulated

Writes benchmarks/table.json, prints the table, and draws figure/scaling.png. About half an hour and
40 GB of disk for the simulated files; nothing else should run meanwhile.
"""

import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch

ROOT = Path(__file__).resolve().parents[1]
CASES = {
    "50,000 × 1,024, 1,000 classes, confident": "speed.py --repeats 3",
    "the same, flat probabilities": "speed.py --sharpness 0.5 --repeats 3",
    "100,000 rows, confident": "speed.py --n 100000 --repeats 3",
    "200,000 rows, confident": "speed.py --n 200000 --repeats 3",
    "400,000 rows, confident": "speed.py --n 400000 --repeats 3",
    "1,240,000 rows, memory-mapped, with refinement": "speed.py --n 1240000 --refined "
                                                     "--dense_rows 0",
    "67,349 × 768, 2 classes": "speed.py --n 67349 --dim 768 --classes 2",
    "kernel cos, 50,000 rows": "speed.py --kernel cos",
    "outliers, 85,000 against 1,280,000, t = 1": "speed.py --n 85000 --targets 1280000 --pow 1 "
                                                "--dense_rows 100",
    "nearest 1,000, 10,000 among 200,000": "knn.py",
    "two processes": "processes.py",
}
GROWTH = ("100,000 rows, confident", "400,000 rows, confident")


def run(command: str, data: Path) -> dict[str, Any]:
    """The JSON line that a benchmark prints."""
    script, *options = command.split()
    if script == "speed.py":
        options += ["--data", str(data)]
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), *options],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The table of docs/speed.md."""
    lines = ["| case | seconds | plain dense | ratio | × limit | difference | memory |",
             "|---|---|---|---|---|---|---|"]
    for name, figures in found.items():
        if name in ("nearest 1,000, 10,000 among 200,000", "two processes"):
            continue
        dense, ratio, limit, difference = (figures.get(key) for key in (
            "dense_seconds_scaled_up", "ratio", "times_limit", "largest_difference"))
        lines.append("| " + " | ".join([
            name, f"{figures['engine_seconds']:.1f}", "" if dense is None else f"{dense:,.0f}",
            "" if ratio is None else f"{ratio:,.1f}", "" if limit is None else f"{limit:.1f}",
            "" if difference is None else f"{difference:.0e}",
            f"{figures['anonymous_mib']:,} MiB"]) + " |")
    few, many = (found[name] for name in GROWTH)
    exponent = math.log(many["engine_seconds"] / few["engine_seconds"]) \
        / math.log(many["n"] / few["n"])
    near, two = found["nearest 1,000, 10,000 among 200,000"], found["two processes"]
    return "\n".join([
        *lines, "",
        f"Growth from 100,000 to 400,000 rows: exponent {exponent:.2f}. Exact nearest neighbours, "
        f"k = 1,000,", f"10,000 rows among 200,000: {near['ratio']:.2f} times the time of faiss "
        f"IndexFlatIP ({near['seconds']:.1f} s),", f"the same in {near['same_neighbours']:.1%} of "
        f"the rows. Two processes of one thread: {two['ratio']:.2f} times as fast as one;",
        f"their scores differ by {two['largest_difference']:.1g}."])


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Seconds against rows, for the engine, the dense computation and the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [figures for figures in found.values() if figures.get("classes") == 1000
            and figures["sharpness"] == 2.2 and figures["kernel"] == "cos_p"
            and figures["targets"] is None]
    rows.sort(key=lambda figures: figures["n"])
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for key, label, colour in (("dense_seconds_scaled_up", "plain dense (scaled up)", "#888888"),
                               ("engine_seconds", "this engine (last: refined)", "#1f6fb2"),
                               ("limit_seconds", "limit: products above the threshold, one read",
                                "#2a9d5c")):
        points = [(figures["n"], figures[key]) for figures in rows if figures[key] is not None]
        axes.loglog(*zip(*points), "o-", label=label, color=colour)
    axes.set(xlabel="rows (1,024 features, 1,000 classes)", ylabel="seconds on 2 cores")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True,
                        help="folder that keeps the simulated files")
    return parser


def main(args: Namespace) -> None:
    found = {}
    for name, command in CASES.items():
        found[name] = run(command, args.data)
        print(json.dumps({name: found[name]}), flush=True)
    (ROOT / "benchmarks" / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, ROOT / "figure" / "scaling.png")
    print(markdown(found))


if __name__ == "__main__":
    launch(main, get_args_parser())
