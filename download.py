"""Bring what an experiment needs: the paper's files from Google Drive, or the digits, built here.

    python download.py -n digits_60                    # no network needed, seconds
    python download.py -n digits_noise0.08_60
    python download.py -n mae_large_noise0.08_49       # 6.3 GB; rerun to resume
    python download.py -n sst2                         # goes to language/results
    python download.py                                 # lists the experiments

Files already in place are checked and kept, however they got there. Ends with exit status 0 when
everything is in place and readable; 1 when Google Drive refused or the connection broke (the
browser's address and the files that remain are printed); 2 for a name that does not exist, a full
disk and the like. The real Google Drive could not be reached where this was tested.
"""

from argparse import Namespace
from pathlib import Path

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import truth


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("-n", "--name", metavar="NAME",
                        help="experiment to download; without it, the known ones are listed")
    parser.add_argument("--cache_dir", type=Path, metavar="DIR",
                        help="folder of the experiments (default: results beside the scripts that "
                             "use them)")
    parser.add_argument("--verbose", type=truth, nargs="?", const=True, default=True,
                        metavar="BOOL", help="progress and details (default: %(default)s)")
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import published
    from experiment.command.errors import InputError

    if args.name is None:
        raise InputError(f"expected -n NAME, one of\n{published.known()}")
    if args.name.startswith("digits"):
        cache_dir = args.cache_dir or arguments.results_beside(__file__)
        experiment = published.find(args.name, "digits", cache_dir)
        from digits import build

        build.build(experiment.folder, experiment.epoch, progress=args.verbose)
        print(f"{experiment.folder}: complete")
    elif args.name in published.PUBLISHED:
        from experiment.files import drive

        found = published.PUBLISHED[args.name]
        drive.fetch(found, args.cache_dir or found.results, progress=args.verbose)
    else:
        raise InputError(f"--name {args.name!r}: no such experiment; known: "
                         f"{', '.join(published.PUBLISHED)}, {published.DIGITS_NAMES}")


if __name__ == "__main__":
    launch(main, get_args_parser())
