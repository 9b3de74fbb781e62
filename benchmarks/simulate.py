"""What an ImageNet classifier might give: simulated features, probabilities and noisy labels.

    python benchmarks/simulate.py --n 50000 --out sim50k

Writes features.npy, probs.npy, labels.npy, is_noisy.npy, which can be memory-mapped, block by
block: memory does not grow with --n. 1,000 classes lie in 100 groups of look-alikes; rows are mixed
with a look-alike and blurred, each to its own degree; probabilities are those of a linear head,
smoothed by 0.1. `--sharpness 2.2` gives a median top probability of about 0.9, 0.5 one of 0.2.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import integer_from_zero, positive_integer, positive_number

BLOCK = 20_000  # rows at a time
LOOKALIKES = 10  # classes in a group


def simulate(n: int, *, dim: int = 1024, classes: int = 1000, sharpness: float = 2.2,
             wrong: float = 0.08, seed: int = 0, by_class: bool = False
             ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield blocks of features (B, dim), probs (B, classes), labels (B,), is_noisy (B,).

    The classes are the same for every seed: two seeds are two samples of one data set. `by_class`:
    one true class after the other, as images lie in folders, and as many rows of each.
    """
    centre, common = _world(dim, classes)
    bias, groups = 7 * centre.square().mean(1), max(1, classes // LOOKALIKES)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        true = torch.arange(start, start + rows) * classes // n if by_class else \
            torch.randint(0, classes, (rows,), generator=generator)
        lookalike = (true + groups * torch.randint(0, LOOKALIKES, (rows,), generator=generator)
                     ) % classes
        mix = 0.9 * torch.rand(rows, 1, generator=generator) ** 3
        blur = 0.9 * (0.3 + 2.2 * torch.rand(rows, 1, generator=generator))
        x = (1 - mix) * centre[true] + mix * centre[lookalike] \
            + blur * torch.randn(rows, dim, generator=generator)
        logits = 14 * (x @ centre.T) / dim - bias
        probs = 0.9 * torch.softmax(sharpness * logits, 1) + 0.1 / classes
        changed = torch.rand(rows, generator=generator) < wrong
        anything = torch.randint(0, classes, (rows,), generator=generator)
        labels = torch.where(changed, anything, true)
        yield x + common, probs, labels, labels != true


def head(dim: int = 1024, classes: int = 1000, *, sharpness: float = 2.2) -> tuple[Tensor, Tensor]:
    """weight (classes, dim) and bias (classes,) of the head that the probabilities come from, all
    but the smoothing."""
    centre, common = _world(dim, classes)
    weight = sharpness * 14 / dim * centre
    return weight, -7 * sharpness * centre.square().mean(1) - weight @ common


def _world(dim: int, classes: int) -> tuple[Tensor, Tensor]:
    """The centre of each class (classes, dim), and a mean that all features share (dim,), as real
    ones do."""
    world = torch.Generator().manual_seed(1)
    groups = max(1, classes // LOOKALIKES)
    group_of = torch.arange(classes) % groups
    centre = 0.8 * torch.randn(groups, dim, generator=world)[group_of] \
        + 0.55 * torch.randn(classes, dim, generator=world)
    return centre, 0.5 * torch.randn(dim, generator=world)


def write(folder: Path, n: int, *, dim: int = 1024, classes: int = 1000, **how) -> None:
    """The four .npy files under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"features": (np.float32, (n, dim)), "probs": (np.float32, (n, classes)),
             "labels": (np.int64, (n,)), "is_noisy": (np.bool_, (n,))}
    files = [np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
             for name, (dtype, shape) in kinds.items()]
    start = 0
    for block in simulate(n, dim=dim, classes=classes, **how):
        for file, values in zip(files, block):
            file[start:start + len(values)] = values.numpy()
        start += len(block[0])
    for file in files:
        file.flush()


def read(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four tensors, memory-mapped."""
    # Copy-on-write: torch wants memory that it could write to, the files stay as they are.
    return tuple(torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c",
                                          allow_pickle=False))
                 for name in ("features", "probs", "labels", "is_noisy"))


def add_size_options(parser: ArgumentParser, **sizes: int) -> None:
    """Options --n, --dim, … of a benchmark, with their defaults."""
    what = {"n": "rows", "dim": "features", "classes": "classes", "k": "neighbours",
            "targets": "rows that they are related to", "repeats": "runs, whose median counts"}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=positive_integer, default=size,
                            help=f"{what[name]} (default: %(default)s)")


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    add_size_options(parser, n=50_000, dim=1024, classes=1000)
    parser.add_argument("--sharpness", type=positive_number, default=2.2,
                        help="of the softmax (default: %(default)s)")
    parser.add_argument("--seed", type=integer_from_zero, default=0,
                        help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    return parser


def main(args: Namespace) -> None:
    write(args.out, args.n, dim=args.dim, classes=args.classes, sharpness=args.sharpness,
          seed=args.seed)


if __name__ == "__main__":
    launch(main, get_args_parser())
