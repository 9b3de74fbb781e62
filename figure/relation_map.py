"""Draw the relation map of one sample: how its relations to all others went over the epochs.

    python figure/relation_map.py -n digits_noise0.08_60 --index 1648
    python figure/relation_map.py -n mae_large_noise0.08_49 --index 7 --epochs 9 29 49
    python figure/relation_map.py --features epoch1.npz epoch2.npz epoch3.npz --index 0

Every other sample is a point: the mean of its relation over the epochs against its variance,
coloured by the value at the last epoch. The samples of the strongest relations are shown beside.
Writes relation_map_<index>.png to the report folder. Needs features of two epochs or more: for the
digits, download.py keeps every tenth epoch.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import integer_from_zero, positive_integer
from experiment.inputs.extraction import Extraction

if TYPE_CHECKING:
    from experiment.inputs.samples import Samples

POINTS = 20_000  # drawn at most: the strongest; the others would lie on top of each other near 0


class Epochs(NamedTuple):
    """Where a training's epochs are: the last one's samples, and all of them as they are read."""

    folder: Path | None  # of an experiment
    names: list[str]
    last: "Samples"
    every: "Iterator[Samples]"


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name="digits_noise0.08_60", file_per_epoch=True)
    group = parser.add_argument_group("relation map")
    group.add_argument("--index", type=integer_from_zero, required=True, metavar="I",
                       help="the sample: its row in the full data, as in scores.csv")
    group.add_argument("--epochs", type=positive_integer, nargs="+", metavar="E",
                       help="epochs to look at (default: all in the experiment's folder, up to "
                            "that of the name)")
    arguments.add_kernel_option(group)
    arguments.add_extraction_options(parser, train=True)
    arguments.add_result_options(
        parser, cache_dir=arguments.results_beside(Path(__file__).parent), page=False)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment.command.errors import InputError
    from experiment.files import writing
    from experiment.files.results_folder import results_folder
    from experiment.run import relation_maps
    from figure import relation_map_picture

    epochs = of_files(args) if args.features else of_experiment(args)
    n = len(epochs.last)
    if args.index >= n:
        raise InputError(f"--index {args.index}: expected 0 to {n - 1}, {epochs.last.source} has "
                         f"{n} rows")
    if n == 1:
        raise InputError(f"{epochs.last.source}: one row has no other to be related to")
    output = args.output or (
        epochs.folder or results_folder(args.cache_dir, args.features[-1])) / "report"
    writing.check_writable(output)
    found, = relation_maps.maps_of(epochs.every, [args.index], kernel=args.kernel, points=POINTS,
                                   progress=args.verbose)
    path = output / f"relation_map_{args.index}.png"
    relation_map_picture.draw(found, epochs.last, epochs.names, path)
    if found.left_out:
        print(f"note: of {n - 1:,} points the {POINTS:,} farthest from the origin are drawn")
    print(f"written: {path}")


def of_experiment(args: Namespace) -> Epochs:
    """The epochs of an experiment: those asked for, or all that were saved up to its own."""
    from experiment import published
    from experiment.command.errors import InputError

    experiment = published.find(args.name, args.dataset, args.cache_dir, args.epoch)
    if experiment.epoch is None:
        raise InputError(f"--name {args.name}: its files carry no epoch; a relation map needs "
                         f"several")
    if args.checkpoint is not None:
        raise InputError("--checkpoint: one file of weights cannot serve several epochs; keep them "
                         "as checkpoint-<epoch>.pth in the experiment's folder")
    chosen = sorted(set(args.epochs or experiment.saved_epochs()))
    if len(chosen) < 2:
        there = f"{experiment.folder} has features of epoch {chosen[0]} alone" if chosen else \
            f"{experiment.folder} has none"
        raise InputError(f"--epochs: expected two epochs or more, {there}; " + (
            f"python download.py -n {args.name} makes more" if experiment.domain == "digits"
            else "name those whose checkpoints you have"))
    load = partial(published.loader(experiment.domain).load_train, experiment.folder,
                   extraction=Extraction.of(args))
    last = load(epoch=chosen[-1])
    return Epochs(experiment.folder, [str(epoch) for epoch in chosen], last,
                  _then(map(lambda epoch: load(epoch=epoch), chosen[:-1]), last))


def of_files(args: Namespace) -> Epochs:
    """The epochs of your own data: a feature file for each."""
    from experiment.command.errors import InputError
    from experiment.inputs import feature_file

    if args.epochs:
        raise InputError("--epochs: feature files hold one epoch each; leave one of the two out")
    if len(args.features) < 2:
        raise InputError("--features: expected two files or more, one for each epoch in order")
    read = partial(feature_file.read, labelled=True)
    last = read(args.features[-1])
    return Epochs(None, [path.stem for path in args.features], last,
                  _then(map(read, args.features[:-1]), last))


def _then(earlier: "Iterator[Samples]", last: "Samples") -> "Iterator[Samples]":
    yield from earlier  # each is loaded when its turn comes, and let go
    yield last


if __name__ == "__main__":
    launch(main, get_args_parser())
