"""Draw the method: two clusters, one wrong label, and the relations that give it away.

    python figure/method.py            # writes figure/method.png
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
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "method.png",
                        metavar="FILE", help="where to write (default: method.png beside the "
                                             "script)")
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from figure import method_picture

    method_picture.draw(args.out)


if __name__ == "__main__":
    launch(main, get_args_parser())
