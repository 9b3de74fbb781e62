"""Every label-error score on the digits: wrong labels by kind and share, seeds and epochs.

    python benchmarks/label_errors.py --out grid                     # about 40 minutes on 2 cores
    python benchmarks/label_errors.py --out grid --noise 0.08 --seeds 0 --epochs 10 60

Trains what is missing under OUT/digits_noise…/, and writes OUT/grid.csv (average precision of every
score in every cell, the number of wrong labels and the estimate of it, how many of the suggested
labels are right), OUT/grid.md (the table of relation/README.md, mean over seeds) and OUT/grid.png
(heat map of what each score lacks to the best one).
"""

import csv
import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import groupby, product
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from digits import samples as digits
from digits.build import build
from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import integer_from_zero, positive_integer
from experiment.run.label_errors import find_label_errors
from experiment.run.settings import Settings

matplotlib.use("Agg")  # a file, never a window
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

SETTINGS = Settings()
SHOWN = ("loss", "relation", "loss (loo)", "loss (refit)", "neighbours", "auto")
ABOUT = ("noise", "kind", "seed", "epoch", "n_wrong", "estimated_wrong", "right_suggestions",
         "weight", "seconds")


def cells(out: Path, noises: list[str], seeds: list[int], epochs: list[int]) -> Iterator[dict]:
    """A row of grid.csv for every cell, in order; networks are trained where they are missing."""
    for noise, kind, seed in product(noises, ("uniform", "pair"), seeds):
        folder = out / f"digits_noise{noise}{'_pair' * (kind == 'pair')}_seed{seed}"
        files = [folder / f"features/feat_train_{epoch}.pt" for epoch in epochs]
        if not all(file.is_file() for file in files):
            build(folder, max(epochs))
        for epoch in epochs:
            yield {"noise": noise, "kind": kind, "seed": seed, "epoch": epoch,
                   **measure(folder, epoch)}


def measure(folder: Path, epoch: int) -> dict:
    """Average precision of every score in one cell, and how good the estimates are."""
    samples = digits.load_train(folder, epoch)
    result = find_label_errors(samples, SETTINGS, progress=False)
    wrong, beyond = samples.is_noisy, result.verdict
    right = beyond.suggested_labels == torch.from_numpy(load_digits().target)
    return {"n_wrong": int(wrong.sum()), "estimated_wrong": beyond.facts["estimated_wrong"],
            "right_suggestions": round(float(right[wrong].double().mean()), 4),
            "weight": round(beyond.facts["regime"]["weight"], 4),
            "seconds": result.seconds["auto"],
            **{row["name"]: round(row["ap"], 4) for row in result.metrics}}


def best_of(row: dict) -> float:
    """The largest average precision of a cell, whatever score it belongs to."""
    return max(value for name, value in row.items() if name not in (*ABOUT, "auto"))


def write_table(rows: list[dict], path: Path) -> None:
    """Mean over the seeds, one line for each noise and epoch."""
    names = ["wrong labels", "epoch", *SHOWN, "best single", "estimated / true"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for (noise, kind, epoch), group in groupby(
            sorted(rows, key=_cell), key=lambda row: (row["noise"], row["kind"], row["epoch"])):
        group = list(group)
        figures = [f"{np.mean([row[name] for row in group]):.3f}" for name in SHOWN]
        best = np.mean([best_of(row) for row in group])
        ratio = np.mean([row["estimated_wrong"] / row["n_wrong"] for row in group])
        lines.append(f"| {100 * float(noise):g} % {kind} | {epoch} | " + " | ".join(figures)
                     + f" | {best:.3f} | {ratio:.2f} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(rows: list[dict], path: Path) -> None:
    """What each score lacks to the best one of its cell: a line for each cell, mean over seeds."""
    groups = [(key, list(group)) for key, group in groupby(
        sorted(rows, key=_cell), key=lambda row: (row["noise"], row["kind"], row["epoch"]))]
    lacks = np.array([[np.mean([max(0, best_of(row) - row[name]) for row in group])
                       for name in SHOWN] for _, group in groups])
    figure, axis = plt.subplots(figsize=(7, 1 + 0.2 * len(groups)), layout="constrained")
    image = axis.imshow(lacks, cmap="magma_r", aspect="auto",
                        norm=matplotlib.colors.LogNorm(0.001, 1, clip=True))
    axis.set_xticks(range(len(SHOWN)), SHOWN, rotation=30, ha="right")
    axis.set_yticks(range(len(groups)), [f"{100 * float(noise):g} % {kind}, epoch {epoch}"
                                         for (noise, kind, epoch), _ in groups], fontsize=7)
    figure.colorbar(image, label="average precision below the best single score")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _cell(row: dict) -> tuple:
    return float(row["noise"]), row["kind"] != "uniform", row["epoch"], row["seed"]


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--noise", nargs="+", default=["0.04", "0.08", "0.2", "0.4"],
                        help="shares of wrong labels (default: 0.04 0.08 0.2 0.4)")
    parser.add_argument("--seeds", type=integer_from_zero, nargs="+", default=[0, 1, 2],
                        help="default: 0 1 2")
    parser.add_argument("--epochs", type=positive_integer, nargs="+",
                        default=[10, 20, 30, 40, 50, 60],
                        help="multiples of 10, as they are saved (default: 10 20 … 60)")
    return parser


def main(args: Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in cells(args.out, args.noise, args.seeds, args.epochs):
        rows.append(row)
        print(f"{row['noise']} {row['kind']} seed {row['seed']} epoch {row['epoch']}: best "
              f"{best_of(row):.3f}, auto {row['auto']:.3f}, {row['estimated_wrong']} of "
              f"{row['n_wrong']} wrong", flush=True)
    with open(args.out / "grid.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    write_table(rows, args.out / "grid.md")
    draw(rows, args.out / "grid.png")
    lacks = [best_of(row) - row["auto"] for row in rows]
    print(f"auto lacks at most {max(lacks):.3f} to the best single score, {np.mean(lacks):.4f} on "
          f"average, of {len(rows)} cells; written: grid.csv, grid.md, grid.png in {args.out}")


if __name__ == "__main__":
    launch(main, get_args_parser())
