"""Command lines: the option groups that scripts share. Free of torch, for a quick --help."""

import argparse
from pathlib import Path

from experiment.command.errors import InputError
from experiment.command.option_types import (
    above_zero_to_one,
    device_name,
    duplicates_of,
    integer_from_zero,
    named_sizes,
    number_from_zero,
    positive_integer,
    temperature_of,
    truth,
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints one line for a wrong option instead of the whole usage."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description,
                         formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def add_experiment_options(parser: argparse.ArgumentParser, *, name: str, images: bool = False,
                           file_per_epoch: bool = False) -> None:
    """Which data: an experiment by name, a feature file (or one for each epoch), or `images`.

    With `images`, -n may also be a network's name, and is None where it is not given.
    """
    group = parser.add_argument_group("data")
    network = (" With images: the network, a name of timm or a folder that timm or Hugging Face's "
               "transformers wrote (default: resnet50)") if images else ""
    group.add_argument("-n", "--name", default=None if images else name, metavar="NAME",
                       help=f"experiment; of mae_* and digits_* the part after the last _ is the "
                            f"epoch (default: {name}).{network}")
    group.add_argument("-d", "--dataset", choices=("imagenet", "digits"), default="imagenet",
                       help="where the data come from; digits_* names imply digits "
                            "(default: %(default)s)")
    group.add_argument("-e", "--epoch", type=integer_from_zero, metavar="E",
                       help="epoch of the features (default: from the name)")
    group.add_argument("--features", type=Path, metavar="FILE",
                       nargs="+" if file_per_epoch else None,
                       help="your own data instead: .npz, .pt, .safetensors, .npy, .csv, .tsv "
                            "or .parquet with features, logits or probs, and labels"
                            + "; one file for each epoch, in order" * file_per_epoch)
    if images:
        group.add_argument("--image_dir", type=Path, metavar="DIR",
                           help="your own images instead: a folder with a folder for each class")
        group.add_argument("--image_csv", type=Path, metavar="FILE",
                           help="your own images instead: a table with the columns path (relative "
                                "to it) and label")
        add_column_options(group)


def add_column_options(group: argparse._ArgumentGroup) -> None:
    """What the columns of a table of paths are called."""
    for what in ("path", "label"):
        group.add_argument(f"--{what}_column", metavar="COLUMN",
                           help=f"column of the table's {what}s (default: {what}, or a usual name)")


def add_extraction_options(parser: argparse.ArgumentParser, *, train: bool = False,
                           validation: bool = False, ood: bool = False) -> None:
    """How features are extracted from images if they are not cached.

    `train`, `validation` and `ood` add the options of the sets that the script reads.
    """
    group = parser.add_argument_group("feature extraction")
    group.add_argument("--imagenet_dir", type=Path, metavar="DIR",
                       help="folder with train/ and val/ (default: IMGNET_DIR of the environment "
                            "or of imagenet/data.py)")
    if ood:
        group.add_argument("--ood_dir", type=Path, metavar="DIR",
                           help="folder with Places, SUN, iNaturalist and dtd/images (default: "
                                "OOD_DIR of the environment or of imagenet/data.py)")
    group.add_argument("--checkpoint", type=Path, metavar="FILE",
                       help="weights of the model (default: those of the experiment or of timm)")
    if train:
        group.add_argument("--train_labels", type=Path, metavar="FILE",
                           help="labels of the training rows, .pt, .npy or .txt of N integers "
                                "(default: from the experiment, or else the folders of train/)")
    if validation:
        group.add_argument("--val_list", type=Path, metavar="FILE",
                           help="file names relative to val/ in the order of the features, one "
                                "on each line (default: the files in val/)")
    if ood:
        group.add_argument("--ood_groups", type=named_sizes, metavar="NAME:ROWS,...",
                           help="OOD sets in the order of their rows (default: the published "
                                "sizes where they fit, or else one set)")
    group.add_argument("--skip_corrupt", action="store_true",
                       help="skip images that cannot be read: their rows become zeros")
    group.add_argument("--batch_size", type=positive_integer, default=128, metavar="B",
                       help="images at a time (default: %(default)s)")
    group.add_argument("--workers", type=positive_integer, default=16, metavar="W",
                       help="processes that load images (default: %(default)s)")
    group.add_argument("--print_freq", type=positive_integer, default=10, metavar="K",
                       help="batches between updates of the progress bar (default: %(default)s)")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How the user's own images are prepared for the network, where not as timm or a folder says.
    """
    group = parser.add_argument_group("your own images")
    group.add_argument("--image_size", type=positive_integer, metavar="PIXELS",
                       help="width and height that images are brought to, for weights that were "
                            "trained at another size (default: timm's for the network)")
    for name, what in (("mean", "means"), ("std", "standard deviations")):
        group.add_argument(f"--{name}", type=above_zero_to_one, nargs=3, metavar=("R", "G", "B"),
                           help=f"{what} of the channels in training, on a scale of 0 to 1 "
                                f"(default: timm's for the network)")


def check_image_options(args: argparse.Namespace) -> None:
    """InputError for options of the user's own images without images of that kind."""
    for option in ("path_column", "label_column"):
        if getattr(args, option) is not None and args.image_csv is None:
            raise InputError(f"--{option}: goes with --image_csv only")
    for option in ("image_size", "mean", "std"):
        if getattr(args, option) is not None and args.image_dir is None and args.image_csv is None:
            raise InputError(f"--{option}: goes with --image_dir or --image_csv only")


def add_relation_options(parser: argparse.ArgumentParser, *, temperature: float | list[float],
                         chunk: int, grid: bool = False) -> None:
    """How the relation is computed; with `grid` kernel, temperature and dtype are lists."""
    group = parser.add_argument_group("relation, each of a grid" if grid else "relation")
    several = {"nargs": "+"} if grid else {}
    add_kernel_option(group, grid=grid)
    group.add_argument("--pow", type=temperature_of, default=temperature, metavar="T",
                       help="power of the relation, the paper's temperature t "
                            "(default: %(default)s)", **several)
    group.add_argument("--thres", type=number_from_zero, default=0.03, metavar="R",
                       help="relations of at most this size are dropped (default: %(default)s)")
    group.add_argument("--hop", type=positive_integer, default=1, metavar="H",
                       help="keep every H-th row and report these alone; for outliers: relation, "
                            "KNN (k / H neighbours) and auto use every H-th training row, the "
                            "other baselines all (default: %(default)s, all)")
    group.add_argument("--chunk", type=positive_integer, default=chunk, metavar="ROWS",
                       help="rows compared at a time; changes memory and speed, and the result "
                            "only by rounding; at most 100 for experiments named resnet*, whose "
                            "features are wider, as in the published runs (default: %(default)s)")
    group.add_argument("--dtype", choices=("float32", "float16", "bfloat16"),
                       default=["float32"] if grid else "float32",
                       help="storage of features and probabilities; sums are wider "
                            "(default: %(default)s)", **several)
    group.add_argument("--engine", choices=("auto", "dense"), default="auto",
                       help="auto skips pairs that cannot count, dense compares every pair; the "
                            "same scores (default: %(default)s)")
    group.add_argument("--device", type=device_name, default="auto",
                       metavar="auto|cpu|cuda[:N]|mps",
                       help="where to compute (default: %(default)s, a GPU if there is one)")


def add_kernel_option(group: argparse._ArgumentGroup, *, grid: bool = False) -> None:
    group.add_argument("--kernel", choices=("cos_p", "cos"), nargs="+" if grid else None,
                       default=["cos_p", "cos"] if grid else "cos_p",
                       help="cosine of features times inner product of probabilities (cos_p), or "
                            "cosine alone (default: %(default)s)")


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """How the noisy set is estimated and excluded."""
    group = parser.add_argument_group("label errors")
    add_refinement_options(group)
    group.add_argument("--graph", default="auto", metavar="auto|off|FILE",
                       help="scores before refinement: auto = cached by an earlier run on the same "
                            "data and settings, off = no cache, FILE = a graph_*.pt of these data "
                            "and settings, not checked (default: %(default)s)")
    group.add_argument("--auto", type=truth, nargs="?", const=True, default=True, metavar="BOOL",
                       help="also compute the out-of-sample scores and auto_score, which combines "
                            "them, see relation/README.md (default: True)")
    group.add_argument("--probs", choices=("model", "loo"), default="model",
                       help="probabilities behind relation_score, rank and predicted_label: the "
                            "model's, or leave-one-out ones that do not use the row's own label; "
                            "scores.csv has both (default: %(default)s)")
    add_duplicates_option(group, "wherever auto is computed")


def add_duplicates_option(group: argparse._ArgumentGroup, unasked: str) -> None:
    group.add_argument("--duplicates", type=duplicates_of, metavar="auto|off|COSINE",
                       help=f"copies: auto = exact ones, and near ones where the data show "
                            f"them, COSINE = near ones above it, off = none "
                            f"(default: auto, {unasked})")


def add_refinement_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--reg", type=number_from_zero, default=0.05, metavar="L",
                       help="rows with s / max|s| below -L count as noisy in the refinement, "
                            "the paper's lambda (default: %(default)s)")
    group.add_argument("--n_iter", type=positive_integer, default=2, metavar="K",
                       help="number of passes: 1 = no refinement, 2 = as published "
                            "(default: %(default)s)")


def add_decisions_option(parser: argparse.ArgumentParser) -> None:
    """What was decided about rows of the user's own data."""
    group = parser.add_argument_group("reviewed rows of your own data")
    group.add_argument("--decisions", type=Path, metavar="FILE",
                       help="the decisions.csv that report.html exports: the rows in it are not "
                            "listed again, kept and relabelled ones are trusted, dropped ones "
                            "left out, and the others judged anew")


def add_epochs_option(parser: argparse.ArgumentParser) -> None:
    """Further checkpoints of the same training."""
    group = parser.add_argument_group("several epochs")
    group.add_argument("--epochs", type=positive_integer, nargs="+", metavar="E",
                       help="epochs to average auto_score over, for networks that have memorised "
                            "the wrong labels at the end of training (default: only the epoch of "
                            "the name); also the epochs of the relation maps in report.html "
                            "(default: all in the folder up to that of the name, for up to "
                            "100,000 rows)")


def add_ood_options(parser: argparse.ArgumentParser) -> None:
    """Which test rows, and which scores to compare with the relation."""
    group = parser.add_argument_group("outliers")
    group.add_argument("--test_features", type=Path, metavar="FILE",
                       help="the test rows of your own data, beside --features: the same keys, "
                            "and is_ood and group where known")
    group.add_argument("--test_dir", type=Path, metavar="DIR",
                       help="the test images of your own data, beside --image_dir or --image_csv: "
                            "any folder of images")
    group.add_argument("--threshold_from", type=Path, metavar="REPORT",
                       help="judge the test rows by the threshold that an earlier run on the same "
                            "training rows saved in this report folder, with that run's settings; "
                            "writes judged.csv (default: a full report)")
    group.add_argument("--baselines", nargs="*", metavar="NAME",
                       help="scores to compare with (default: the published ones: MSP, MaxLogit, "
                            "Energy and so on; an unknown name lists them all)")
    add_duplicates_option(group, "for up to 100,000 rows, test rows that are copies of training "
                                 "rows")


def one_of(args: argparse.Namespace, *options: str) -> str | None:
    """The one of these options that is given, or None. InputError for more than one."""
    given = [option for option in options if getattr(args, option) is not None]
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]}: two sources of data; leave one out")
    return given[0] if given else None


def results_beside(script: str | Path) -> Path:
    """The folder results/ beside a script, relative to the current folder where it lies below."""
    folder = Path(script).resolve().parent / "results"
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def add_result_options(parser: argparse.ArgumentParser, *, cache_dir: Path,
                       page: bool = True) -> None:
    """Where files are read and written, how much is printed, and how much a `page` shows."""
    group = parser.add_argument_group("files and output")
    group.add_argument("--cache_dir", type=Path, default=cache_dir, metavar="DIR",
                       help="folder of the experiments (default: results beside the script)")
    group.add_argument("--output", type=Path, metavar="DIR",
                       help="folder of the report (default: report/ in the experiment's folder)")
    if page:
        group.add_argument("--show", type=integer_from_zero, metavar="K",
                           help="suspects with media and evidence in report.html (default: 200, "
                                "or 50 sounds, fewer where the file would grow beyond 30 MB)")
    group.add_argument("--verbose", type=truth, nargs="?", const=True, default=True,
                       metavar="BOOL", help="progress and details (default: %(default)s)")
