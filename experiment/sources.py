"""What the options of the root's scripts name: an experiment, or a feature file.

The user's own images are loaded by `imagenet.own`, texts by `language.own`, sounds by `speech.own`.
Rank 0 loads first because it may extract and cache features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiment import published
from experiment.command import processes
from experiment.command.errors import InputError
from experiment.files.results_folder import results_folder
from experiment.inputs import feature_file
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples
from experiment.run.settings import FEW_ROWS


@dataclass(frozen=True)
class Source:
    """Samples, the folder of their results, and what is known of other epochs."""

    samples: Samples
    folder: Path
    epochs: dict[str, Samples] = field(default_factory=dict)  # that auto is averaged over
    # Epochs that relation maps are drawn from, in order.
    history: dict[str, Callable[[], Samples]] = field(default_factory=dict)


class Pair(NamedTuple):
    """Training and test rows, and the folder of the test rows' results."""

    train: Samples
    test: Samples
    folder: Path


def experiment(name: str, dataset: str, cache_dir: Path, epoch: int | None, epochs: list[int],
               extraction: Extraction) -> Source:
    """The training set of an experiment, and of its other `epochs`."""
    found = published.find(name, dataset, cache_dir, epoch)
    load = partial(published.loader(found.domain).load_train, found.folder, extraction=extraction)
    if found.epoch is None and epochs:
        raise InputError(f"--epochs: the files of {name} carry no epoch")
    with processes.first_before_others():
        samples = load(epoch=found.epoch)
        others = {f"epoch {other}": load(epoch=other) for other in epochs}
    mapped = {*epochs, found.epoch} if epochs else ()
    if not epochs and len(samples) <= FEW_ROWS and extraction.checkpoint is None:
        mapped = found.saved_epochs()  # soon read, each with weights of its own
    return Source(samples, found.folder, others,
                  {str(other): partial(load, epoch=other) for other in sorted(mapped)})


def validation(name: str, dataset: str, cache_dir: Path, epoch: int | None,
               extraction: Extraction) -> Source:
    """The validation set of an experiment."""
    found = published.find(name, dataset, cache_dir, epoch)
    with processes.first_before_others():
        return Source(published.loader(found.domain).load_val(
            found.folder, found.epoch, extraction), found.folder)


def experiment_pair(name: str, dataset: str, cache_dir: Path, epoch: int | None,
                    extraction: Extraction) -> Pair:
    """Training and test rows of an experiment."""
    found = published.find(name, dataset, cache_dir, epoch)
    with processes.first_before_others():
        return Pair(*published.loader(found.domain).load_ood(
            found.folder, found.epoch, extraction), found.folder)


def features(path: Path, cache_dir: Path) -> Source:
    """A feature file with labels."""
    return Source(feature_file.read(path, labelled=True), results_folder(cache_dir, path))


def features_pair(path: Path, test_path: Path, cache_dir: Path) -> Pair:
    """Feature files of training and of test rows."""
    return Pair(feature_file.read(path, labelled=False, ignore=("is_noisy",)),
                feature_file.read(test_path, labelled=False, ignore=("labels", "is_noisy")),
                results_folder(cache_dir, test_path))
