"""Speed of the relation scores against the plain dense computation, in one run on simulated data.

    python benchmarks/speed.py                              # 50,000 rows, 1,000 classes
    python benchmarks/speed.py --n 200000 --sharpness 0.5
    python benchmarks/speed.py --n 67349 --dim 768 --classes 2        # the shape of SST-2
    python benchmarks/speed.py --n 85000 --targets 1280000 --pow 1    # outliers
    python benchmarks/speed.py --n 1240000 --refined --dense_rows 0   # ImageNet, memory-mapped

The dense computation is the published one: rows against all others, whole (rows, M) arrays for
products, mask, sign and power; it is timed on a sample of rows and scaled up. The engine is timed
whole, from memory-mapped files to scores. Prints JSON with the seconds of both and their ratio; the
largest difference from float64 on sampled rows, relative to the largest score; the anonymous memory
of the engine (Linux); and the limit: what the pairs with p . p above the threshold take at the rate
of a large matrix product measured in the same run, and one read of the inputs.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from benchmarks import simulate
from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import integer_from_zero, positive_integer, positive_number
from experiment.command.watch import Watch
from relation import detect_label_noise, relation_scores, unit_rows

THRESHOLD = 0.03
CHECKED_ROWS = 200  # compared with float64
LIMIT_ROWS = 2000  # that tell how many pairs exceed the threshold
STEP = 20_000  # target rows at a time where it must not count
PRODUCT = 2048  # edge of the square matrices whose product gives the rate


def naive_rows(rows: Tensor, source: list[Tensor], target: list[Tensor | None], *, kernel: str,
               temperature: float) -> Tensor:
    """Scores of the chosen source rows, a whole (rows, M) array for each step; unit features."""
    features, probs, labels = (values[rows] for values in source)
    k = (features @ target[0].T).clamp(min=0)
    if kernel == "cos_p":
        k = k * (probs @ target[1].T)
    r = k if target[2] is None else torch.where(labels[:, None] == target[2][None, :], k, -k)
    r = r * (r.abs() > THRESHOLD)
    return (r.sign() * r.abs() ** temperature).sum(1)


def compare(source: list[Tensor], target: list[Tensor] | None, *, kernel: str = "cos_p",
            temperature: float = 4, dense_rows: int = 250, refined: bool = False,
            repeats: int = 1) -> dict[str, Any]:
    """Time both, check the engine, and find the limit; target None: the set against itself."""
    n = len(source[0])
    other = {} if target is None else {"target_features": target[0], "target_probs": target[1]}
    inputs = [*source[:2], source[2] if target is None else None]
    how = dict(kernel=kernel, temperature=temperature)
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    found = {"dense_seconds_scaled_up": None, "ratio": None}
    if dense_rows:
        against = source if target is None else [*target[:2], None]
        dense = [unit_rows(source[0]), *source[1:]], [unit_rows(against[0]), *against[1:]]
        naive_rows(rows[-dense_rows:], *dense, **how)  # warms up
        timed = rows[:dense_rows]
        started = time.perf_counter()
        naive_rows(timed, *dense, **how)
        found["dense_seconds_scaled_up"] = (time.perf_counter() - started) * n / len(timed)
        del dense
    seconds = []
    with Watch() as watch:
        for _ in range(repeats):
            started = time.perf_counter()
            scores = detect_label_noise(*inputs, **how).reliability if refined else \
                relation_scores(*inputs, **other, **how)
            seconds.append(time.perf_counter() - started)
    found["engine_seconds"] = statistics.median(seconds)
    if dense_rows:
        found["ratio"] = found["dense_seconds_scaled_up"] / found["engine_seconds"]
    found["anonymous_mib"] = round(watch.mib)
    if not refined:
        found["largest_difference"] = _difference(scores, rows[:CHECKED_ROWS], inputs,
                                                  inputs if target is None else [*target[:2], None],
                                                  **how)
    if kernel == "cos_p":
        found["limit_seconds"] = _limit(source, target, rows[:LIMIT_ROWS])
        found["times_limit"] = found["engine_seconds"] / found["limit_seconds"]
    return found


def _difference(scores: Tensor, rows: Tensor, source: list[Tensor | None],
                target: list[Tensor | None], *, kernel: str, temperature: float) -> float:
    """Largest difference from float64 beyond what edges within rounding of the threshold may make,
    relative to the largest score."""
    expected, slack = torch.zeros(2, len(rows), dtype=torch.float64)
    features = torch.nn.functional.normalize(source[0][rows].double())
    for start in range(0, len(target[0]), STEP):
        block = [None if values is None else values[start:start + STEP] for values in target]
        r = (features @ torch.nn.functional.normalize(block[0].double()).T).clamp(min=0)
        if kernel == "cos_p":
            r *= source[1][rows].double() @ block[1].double().T
        slack += ((r - THRESHOLD).abs() < 1e-6).sum(1) * THRESHOLD**temperature
        edges = torch.where(r > THRESHOLD, r**temperature, 0)
        if block[2] is not None:
            edges = torch.where(source[2][rows, None] == block[2], edges, -edges)
        expected += edges.sum(1)
    off = ((scores[rows].double() - expected).abs() - slack).clamp(min=0)
    return float(off.max() / scores.abs().max())


def _limit(source: list[Tensor], target: list[Tensor] | None, rows: Tensor) -> float:
    """Seconds for the products of the pairs above the threshold, and one read of the inputs."""
    against = source if target is None else target
    above = 0
    for start in range(0, len(against[1]), STEP):
        above += int((source[1][rows] @ against[1][start:start + STEP].T > THRESHOLD).sum())
    pairs = above / len(rows) * len(source[0]) / (2 if target is None else 1)
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    a @ b
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    rate = 10 * 2 * PRODUCT**3 / (time.perf_counter() - started)
    started = time.perf_counter()
    for values in {id(values): values for values in [*source[:2], *against[:2]]}.values():
        values.sum()
    read = time.perf_counter() - started
    return pairs * 2 * (source[0].shape[1] + source[1].shape[1]) / rate + read


def simulated(folder: Path, n: int, **how: Any) -> list[Tensor]:
    """Features, probs and labels, memory-mapped; made in a process of its own if not there yet,
    since memory that it frees would be used again here and hide the peak."""
    name = "_".join([str(n), *(f"{key}{value}" for key, value in how.items())])
    if not (folder / name).is_dir():
        options = [text for key, value in how.items() for text in (f"--{key}", str(value))]
        subprocess.run([sys.executable, simulate.__file__, "--out", str(folder / f"{name}.part"),
                        "--n", str(n), *options], check=True)
        (folder / f"{name}.part").rename(folder / name)
    return list(simulate.read(folder / name)[:3])


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    simulate.add_size_options(parser, n=50_000, dim=1024, classes=1000, repeats=1)
    parser.add_argument("--targets", type=positive_integer,
                        help="rows of a training set that outliers are looked for against "
                             "(default: the set against itself, with labels)")
    parser.add_argument("--sharpness", type=positive_number, default=2.2,
                        help="of the softmax (default: %(default)s)")
    parser.add_argument("--kernel", choices=("cos_p", "cos"), default="cos_p")
    parser.add_argument("--pow", type=positive_number, default=4.0,
                        help="default: %(default)s")
    parser.add_argument("--refined", action="store_true",
                        help="with the refinement of label errors, which is not checked here")
    parser.add_argument("--dense_rows", type=integer_from_zero, default=250,
                        help="rows that the dense computation is timed on, 0 for none "
                             "(default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder that keeps the simulated files")
    return parser


def main(args: Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, how = args.data or Path(temporary), dict(
            dim=args.dim, classes=args.classes, sharpness=args.sharpness)
        source = simulated(folder, args.n, **how, seed=0 if args.targets is None else 1)
        target = None if args.targets is None else simulated(folder, args.targets, **how, seed=0)
        figures = compare(source, target, kernel=args.kernel, temperature=args.pow,
                          dense_rows=args.dense_rows, refined=args.refined,
                          repeats=args.repeats)
    settings = {key: value for key, value in vars(args).items() if key != "data"}
    print(json.dumps({**settings, "threads": torch.get_num_threads(), **figures}))


if __name__ == "__main__":
    launch(main, get_args_parser())
