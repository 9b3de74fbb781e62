"""Command lines: the option groups that scripts share, and how a script starts and ends.

Imports nothing heavy, so that --help answers at once.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiment.errors import InputError

INTERRUPTED = 130  # exit status after Ctrl-C, as shells count it


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong option gets one line instead of the whole usage."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description,
                         formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def launch(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse, run, and turn a user's mistake into one line and exit status 2."""
    args = parser.parse_args()
    try:
        main(args)
    except InputError as error:
        sys.exit(_say(parser, f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_say(parser, "interrupted", INTERRUPTED))


@dataclass(frozen=True)
class RelationSettings:
    """What the relation options say, in the method's words."""

    kernel: str
    temperature: float
    threshold: float
    hop: int
    chunk: int
    dtype: str
    device: str


def relation_settings(args: argparse.Namespace) -> RelationSettings:
    return RelationSettings(kernel=args.kernel, temperature=args.pow, threshold=args.thres,
                            hop=args.hop, chunk=args.chunk, dtype=args.dtype, device=args.device)


def add_experiment_options(parser: argparse.ArgumentParser, *, name: str) -> None:
    """Which data: an experiment by name, or a feature file."""
    group = parser.add_argument_group("data")
    group.add_argument("-n", "--name", default=name, metavar="NAME",
                       help="experiment; of mae_* and digits_* the part after the last _ is the "
                            "epoch (default: %(default)s)")
    group.add_argument("-d", "--dataset", choices=("imagenet", "digits"), default="imagenet",
                       help="where the data come from; digits_* names imply digits "
                            "(default: %(default)s)")
    group.add_argument("-e", "--epoch", type=positive_integer, metavar="E",
                       help="epoch of the features (default: from the name)")
    group.add_argument("--features", type=Path, metavar="FILE",
                       help="your own data instead: .npz, .pt or .safetensors with features, "
                            "logits or probs, and labels")


def add_extraction_options(parser: argparse.ArgumentParser) -> None:
    """How features are extracted from images where the cache lacks them."""
    group = parser.add_argument_group("feature extraction")
    group.add_argument("--batch_size", type=positive_integer, default=128, metavar="B",
                       help="images at a time (default: %(default)s)")
    group.add_argument("--workers", type=positive_integer, default=16, metavar="W",
                       help="processes that read images (default: %(default)s)")
    group.add_argument("--print_freq", type=positive_integer, default=10, metavar="K",
                       help="batches between two updates of the progress (default: %(default)s)")


def add_relation_options(parser: argparse.ArgumentParser, *, temperature: float,
                         chunk: int) -> None:
    """How the relation is computed."""
    group = parser.add_argument_group("relation")
    group.add_argument("--kernel", choices=("cos_p", "cos"), default="cos_p",
                       help="cosine of features times inner product of probabilities (cos_p), or "
                            "cosine alone (default: %(default)s)")
    group.add_argument("--pow", type=positive_number, default=temperature, metavar="T",
                       help="power of the relation, the paper's temperature t "
                            "(default: %(default)s)")
    group.add_argument("--thres", type=number_from_zero, default=0.03, metavar="R",
                       help="relations of at most this size are dropped (default: %(default)s)")
    group.add_argument("--hop", type=positive_integer, default=1, metavar="H",
                       help="keep every H-th row (default: %(default)s, all)")
    group.add_argument("--chunk", type=positive_integer, default=chunk, metavar="ROWS",
                       help="rows compared at a time; changes memory and speed, not the result "
                            "(default: %(default)s)")
    group.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32",
                       help="storage of features and probabilities; sums are wider "
                            "(default: %(default)s)")
    group.add_argument("--device", type=device_name, default="auto",
                       metavar="auto|cpu|cuda[:N]|mps",
                       help="where to compute (default: %(default)s, a GPU if there is one)")


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """How the noisy set is estimated and left out."""
    group = parser.add_argument_group("label errors")
    group.add_argument("--reg", type=number_from_zero, default=0.05, metavar="L",
                       help="rows with s / max|s| below -L are taken as noisy in the refinement, "
                            "the paper's lambda (default: %(default)s)")
    group.add_argument("--n_iter", type=positive_integer, default=2, metavar="K",
                       help="how often s is computed: 1 = no refinement, 2 = as published "
                            "(default: %(default)s)")


def add_result_options(parser: argparse.ArgumentParser, *, cache_dir: Path) -> None:
    """Where files are found and written, and how much is said."""
    group = parser.add_argument_group("files and output")
    group.add_argument("--cache_dir", type=Path, default=cache_dir, metavar="DIR",
                       help="folder of the experiments (default: results beside the script)")
    group.add_argument("--output", type=Path, metavar="DIR",
                       help="folder of the report (default: report/ in the experiment's folder)")
    group.add_argument("--verbose", type=truth, nargs="?", const=True, default=True,
                       metavar="BOOL", help="progress and details (default: %(default)s)")


def positive_integer(text: str) -> int:
    return int(_number(text, int, "a whole number of at least 1", lambda value: value >= 1))


def positive_number(text: str) -> float:
    return _number(text, _whole_or_not, "a number above 0",
                   lambda value: value > 0 and math.isfinite(value))


def number_from_zero(text: str) -> float:
    return _number(text, float, "a number of at least 0",
                   lambda value: value >= 0 and math.isfinite(value))


def truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return known[text.lower()]


def device_name(text: str) -> str:
    kind, _, number = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (
            kind == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


def _whole_or_not(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _number(text: str, kind: Callable[[str], float], expected: str,
            allowed: Callable[[float], bool]) -> float:
    try:
        value = kind(text)
    except (ValueError, OverflowError):
        value = math.nan
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def _say(parser: argparse.ArgumentParser, line: str, status: int) -> int:
    print(f"{parser.prog}: {line}", file=sys.stderr)
    return status
