"""Whole commands at ImageNet's size: the seconds and the memory of each of their stages.

    python benchmarks/full_size.py --data layout              # a tenth of the rows, 1 GB of disk
    python benchmarks/full_size.py --data layout --share 1    # all: 6 GB, and 11 more for each run

Makes experiments in the published layout under DATA, once: simulated features (`simulate.py`),
class after class as images lie in folders, of which the head makes probabilities as confident as a
real network's. Then runs detect.py, detect_val.py and detect_ood.py as a user does, reads their
anonymous memory from /proc twenty times a second, and prints a table, which DATA/full_size.json
holds as well. Linux only.

The validation images' names are in no order that means anything, so the figures of detect_val.py's
own report mean nothing here. KNN and Mahalanobis take most of detect_ood.py's time (`--baselines`
leaves them out), outliers and copies about half of detect.py's (`--duplicates off`).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import simulate
from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import positive_number
from experiment.files import writing

ROOT = Path(__file__).resolve().parents[1]
TRAIN, KEPT, OOD = 1_281_167, 1_242_890, 35_640  # rows, as published
VAL_PER_CLASS = 50
DIM, CLASSES = 1024, 1000
NOISY, CLEAN = "mae_large_noise0.08", "mae_large"  # the experiments' folders
EVERY = 0.05  # seconds between two looks at a command's memory


def make(folder: Path, share: float, *, dim: int = DIM, classes: int = CLASSES) -> None:
    """The two experiments; a file that is there already, as is the target.pt that is made last, is
    left as it is."""
    weight, bias = simulate.head(dim, classes)
    for name in (NOISY, CLEAN):
        _unless_there(folder / name / "checkpoint-49.pth", lambda: {
            "model": {"head.weight": weight, "head.bias": bias}, "optimizer": {}, "epoch": 49,
            "scaler": {}, "args": Namespace(model="vit_large_patch16")})
    clean = folder / CLEAN / "features"
    _unless_there(clean / "feat_ood_49.pt", lambda: _outliers(
        max(1, round(OOD * share)), dim=dim, classes=classes))
    per_class = max(1, round(VAL_PER_CLASS * share))
    _unless_there(clean / "feat_val_49.pt", lambda: _validation(per_class, dim, classes))
    (folder / "val.txt").write_text("".join(
        f"n{row // per_class:08}/ILSVRC2012_val_{row + 1:08}.JPEG\n"
        for row in range(per_class * classes)))
    if not (folder / NOISY / "target.pt").is_file():
        _make_train(folder, max(classes, round(TRAIN * share)), max(1, round(KEPT * share)),
                    dim=dim, classes=classes)


def _unless_there(path: Path, value) -> None:
    if not path.is_file():
        writing.save(value(), path)


def _outliers(n: int, **size: int) -> Tensor:
    """What lies between two samples of different classes, mostly."""
    rows = torch.cat([block[0] for block in simulate.simulate(n, seed=2, **size)])
    return (rows + rows.roll(1, 0)) / 2


def _validation(per_class: int, dim: int, classes: int) -> Tensor:
    """As many rows of each class, class by class."""
    rows, filled = torch.empty(classes, per_class, dim), [0] * classes
    for block, _, labels, _ in simulate.simulate(10**9, dim=dim, classes=classes, seed=1, wrong=0):
        for row, label in zip(block, labels.tolist()):
            if filled[label] < per_class:
                rows[label, filled[label]] = row
                filled[label] += 1
        if min(filled) == per_class:
            return rows.view(-1, dim)
    raise AssertionError("a class without rows among so many")


def _make_train(folder: Path, n: int, kept: int, *, dim: int, classes: int) -> None:
    """The training rows, in both experiments the same file, and their labels."""
    path = folder / NOISY / "features" / "feat_train_49.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw")  # written block by block: more than memory may hold
    rows = np.memmap(raw, np.float32, "w+", shape=(n, dim))
    labels, is_noisy = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.bool)
    start = 0
    for features, _, given, noisy in simulate.simulate(n, dim=dim, classes=classes, by_class=True):
        stop = start + len(features)
        rows[start:stop], labels[start:stop], is_noisy[start:stop] = features, given, noisy
        start = stop
    writing.save(torch.from_numpy(rows), path)
    del rows
    raw.unlink()
    other = folder / CLEAN / "features" / path.name
    other.unlink(missing_ok=True)
    os.link(path, other)
    np.save(folder / "train_labels.npy", labels.numpy())
    generator = torch.Generator().manual_seed(3)
    chosen = torch.randperm(n, generator=generator)[:kept].sort().values
    writing.save({"idx_clean": chosen, "targets": labels[chosen],
                  "idx_chg": is_noisy[chosen].nonzero()[:, 0]}, folder / NOISY / "target.pt")


def commands(folder: Path, args: Namespace) -> dict[str, list[str]]:
    """Each script with what it is run with; nothing that an earlier run has kept is used."""
    baselines = [] if args.baselines is None else ["--baselines", *args.baselines]
    found = {
        "detect.py": ["-n", f"{NOISY}_49", "--pow", "4", "--graph", "off", "--duplicates",
                      args.duplicates],
        "detect_val.py": ["-n", f"{CLEAN}_49", "--pow", "4", "--graph", "off", "--val_list",
                          str(folder / "val.txt")],
        "detect_ood.py": ["-n", f"{CLEAN}_49", "--pow", "1", "--train_labels",
                          str(folder / "train_labels.npy"), *baselines]}
    return {script: [sys.executable, str(ROOT / script), *options, "--cache_dir", str(folder),
                     "--dtype", args.dtype, "--output", str(folder / f"report_{script[:-3]}")]
            for script, options in found.items() if script in args.scripts}


def run(command: list[str]) -> dict[str, Any]:
    """Seconds and largest anonymous memory of each stage, and what was forecast before."""
    began, seen = time.perf_counter(), []
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                seen.append((time.perf_counter() - began, _anonymous_mib(process.pid)))
                time.sleep(EVERY)
        wall = time.perf_counter() - began
        output.seek(0)
        said = output.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\nended with {process.returncode}:\n{said}")
    report = Path(command[command.index("--output") + 1])
    metrics = json.loads((report / "metrics.json").read_text())
    laps = metrics["seconds"]
    stages, start = {}, wall - sum(laps.values())  # Python's own start, and its end
    for name, seconds in laps.items():
        within = [mib for at, mib in seen if start <= at <= start + seconds]
        stages[name] = {"seconds": round(seconds, 1), "anonymous_mib": max(within, default=None)}
        start += seconds
    peak = max(mib for _, mib in seen)
    # The forecast is of what comes on top of what loading has left.
    loaded = [mib for at, mib in seen if at <= wall - sum(laps.values()) + laps["loading"]][-1]
    needed = 1024 * float(re.search(r"memory: about ([\d.]+) GiB needed", said)[1])
    return {"wall_seconds": round(wall, 1), "anonymous_mib": peak,
            "told_mib": metrics["peak_memory_mib"],
            "on_top_mib": peak - loaded, "forecast_mib": round(needed),
            "rows": metrics["data"]["n"], "stages": stages,
            "metrics": {row["name"]: row["ap"] for row in metrics["rows"]
                        if row["group"] == "all"}}


def _anonymous_mib(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return 0 if found is None else int(found[1]) // 1024


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """A table of all commands and their stages."""
    lines = ["| command, rows | stage | seconds | anonymous memory |", "|---|---|---|---|"]
    for script, figures in found.items():
        lines.append(f"| {script}, {figures['rows']:,} | whole | {figures['wall_seconds']:,.0f} | "
                     f"{figures['anonymous_mib']:,} MiB, {figures['on_top_mib']:,} of them on top "
                     f"of what loading left (forecast {figures['forecast_mib']:,}) |")
        lines += [f"| | {name} | {stage['seconds']:,} | "
                  f"{'' if stage['anonymous_mib'] is None else stage['anonymous_mib']} |"
                  for name, stage in figures["stages"].items()]
    return "\n".join(lines)


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True,
                        help="folder that keeps the experiments, of one share each")
    parser.add_argument("--share", type=positive_number, default=0.1,
                        help="of ImageNet's rows (default: %(default)s)")
    parser.add_argument("--scripts", nargs="+", metavar="SCRIPT",
                        default=("detect.py", "detect_val.py", "detect_ood.py"),
                        choices=("detect.py", "detect_val.py", "detect_ood.py"),
                        help="which of detect.py, detect_val.py, detect_ood.py (default: all)")
    parser.add_argument("--duplicates", choices=("auto", "off"), default="auto",
                        help="of detect.py, which else looks for outliers and copies in up to "
                             "100,000 rows (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="of the commands (default: %(default)s)")
    parser.add_argument("--baselines", nargs="+", metavar="NAME",
                        help="those of detect_ood.py (default: all)")
    return parser


def main(args: Namespace) -> None:
    folder = args.data / f"share{args.share:g}"
    make(folder, args.share)
    found = {}
    for script, command in commands(folder, args).items():
        found[script] = run(command)
        print(json.dumps({script: found[script]}), flush=True)
    writing.save_json(found, args.data / "full_size.json")
    print(markdown(found))


if __name__ == "__main__":
    launch(main, get_args_parser())
