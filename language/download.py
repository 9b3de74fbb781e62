"""Download the published files of SST-2 or MNLI, or make the demo.

    python language/download.py -t sst2       # 680 MB from Google Drive
    python language/download.py -t mnli       # 1.7 GB
    python language/download.py -t demo       # no connection needed, under a minute
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from language import options


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    parser.add_argument("-t", "--task_name", choices=("sst2", "mnli", "demo"), default="sst2",
                        help="(default: %(default)s)")
    options.add_run_options(parser)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    if args.task_name == "demo":
        import torch

        from language import demo

        torch.set_num_threads(1)  # the same result anywhere, and tiny tensors gain nothing by more
        demo.make(args.cache_dir / "demo", Extraction.of(args))
    else:
        from experiment import published
        from experiment.files import drive

        drive.fetch(published.PUBLISHED[args.task_name], args.cache_dir, progress=args.verbose)


if __name__ == "__main__":
    launch(main, get_args_parser())
