"""Gather the figures of all experiments into tables for a paper: Markdown, CSV and LaTeX.

    python figure/tables.py
    python figure/tables.py --cache_dir results language/results --scores loss relation auto
    \\input{results/tables.tex}                      % in the paper, with booktabs and textcomp

Reads every metrics.json under the folder, one row for each experiment and score; the best of each
experiment is bold. Writes tables.md, tables.csv and tables.tex to the folder and prints the first.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--cache_dir", type=Path, nargs="+", metavar="DIR",
                        default=[arguments.results_beside(Path(__file__).parent)],
                        help="folders of experiments (default: results)")
    parser.add_argument("--scores", nargs="+", metavar="NAME",
                        help="scores to show, in this order (default: all)")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="where to write (default: the first --cache_dir)")
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment.files import writing
    from figure import table_formats, tables_gathered

    found = tables_gathered.gather(args.cache_dir, scores=args.scores)
    output = args.output or args.cache_dir[0]
    formats = {"tables.md": table_formats.markdown, "tables.csv": table_formats.csv_table,
               "tables.tex": table_formats.latex}
    writing.check_writable(output)
    with writing.locked(output):
        for name, form in formats.items():
            with writing.replacing(output / name) as temporary:
                temporary.write_text(form(found), encoding="utf-8", newline="")
    print(table_formats.markdown(found))
    for line in found.skipped:
        print(f"note: {line}")
    print(f"written to {output}: {', '.join(formats)}")


if __name__ == "__main__":
    launch(main, get_args_parser())
