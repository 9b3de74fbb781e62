"""Try a grid of settings on one data set whose wrong labels are known, and plot what they find.

    python figure/sweep.py -n digits_noise0.08_60
    python figure/sweep.py -n NAME --pow 1 2 4 6 8 --kernel cos cos_p --dtype float32 float16
    python figure/sweep.py --features train.npz --pow 2 4 8

The data are loaded once. Writes sweep.csv and sweep.json (AUROC, AP, TNR95, FPR95 of the relation
score after refinement, the number of rows that it took to be wrong, and seconds, for each setting)
and sweep.png (AP and AUROC against t) to the report folder, and marks the setting of largest AP and
the paper's. Each setting takes as long as the relation in detect.py: about a second for the digits.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings

COLUMNS = ("kernel", "dtype", "temperature", "auroc", "ap", "tnr95", "fpr95", "estimated_noise",
           "seconds")


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name="digits_noise0.08_60")
    arguments.add_relation_options(parser, temperature=[1, 2, 4, 6, 8], chunk=250, grid=True)
    arguments.add_refinement_options(parser.add_argument_group("label errors"))
    arguments.add_extraction_options(parser, train=True)
    arguments.add_result_options(
        parser, cache_dir=arguments.results_beside(Path(__file__).parent), page=False)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from tqdm import tqdm

    from experiment import sources
    from experiment.command.device import find_device
    from experiment.files import writing
    from figure import sweep_picture
    from figure.sweep_grid import best_of, published_of, sweep

    find_device(args.device)  # refused before hours of loading
    extraction = Extraction.of(args)
    if args.features is not None:
        data = sources.features(args.features, args.cache_dir)
    else:
        data = sources.experiment(args.name, args.dataset, args.cache_dir, args.epoch, [],
                                  extraction)
    samples, output = data.samples, args.output or data.folder / "report"
    writing.check_writable(output)
    grid = grid_of(args.dtype, args.kernel, args.pow, Settings.of(args))
    rows = list(tqdm(sweep(samples, grid), total=len(grid), desc="sweep", unit=" settings",
                     disable=not args.verbose))
    best, published = best_of(rows), published_of(rows)
    with writing.locked(output):
        write(rows, output, {"best": best, "published": published, "settings": vars(args),
                             "data": {"source": samples.source, "n": len(samples)}})
        sweep_picture.draw(rows, best, published, output / "sweep.png")
    show(rows, best, published, -(-len(samples) // args.hop))
    print(f"\nwritten to {output}: sweep.csv, sweep.json, sweep.png")


def grid_of(dtypes: list[str], kernels: list[str], temperatures: list[float], others: Settings
            ) -> list[Settings]:
    """Settings for every combination, once each; all else as in `others`."""
    return [replace(others, dtype=dtype, kernel=kernel, temperature=temperature)
            for dtype, kernel, temperature in product(*map(dict.fromkeys,
                                                           (dtypes, kernels, temperatures)))]


def write(rows: list[dict[str, Any]], folder: Path, about: dict[str, Any]) -> None:
    """sweep.csv and sweep.json: the same rows, with what they were made from in the latter."""
    import csv

    from experiment.files import writing

    with writing.replacing(folder / "sweep.csv") as temporary, \
            open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    writing.save_json({"grid": rows, **about}, folder / "sweep.json")


def show(rows: list[dict[str, Any]], best: dict[str, Any], published: dict[str, Any] | None,
         n: int) -> None:
    """The table on screen, with a word behind the two settings that are marked in the picture."""
    print("kernel  dtype         t   AUROC      AP   TNR95   FPR95*  noise")
    for row in rows:
        figures = "".join(f"  {row[name]:6.3f}" for name in ("auroc", "ap", "tnr95", "fpr95"))
        marks = ["best AP"] * (row is best) + ["the paper's"] * (row is published)
        print(f"{row['kernel']:7} {row['dtype']:9} {row['temperature']:5g}{figures}  "
              f"{row['estimated_noise']:6}  {', '.join(marks)}".rstrip())
    print(f"*FPR95: lower is better; noise: rows of {n:,} whose labels refinement took to be wrong")


if __name__ == "__main__":
    launch(main, get_args_parser())
