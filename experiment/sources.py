"""What the options of detect.py and detect_ood.py name: an experiment, or data of one's own.

Of several processes the first one loads before the others: it may extract features and keep them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiment import published
from experiment.command import processes
from experiment.command.errors import InputError
from experiment.inputs import feature_file
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples
from experiment.published import folder_name_of
from experiment.run.settings import AUTO_ROWS


class Source(NamedTuple):
    """Samples, the folder of their results, and what is known of other epochs."""

    samples: Samples
    folder: Path
    epochs: dict[str, Samples]  # that auto is averaged over
    history: dict[str, Callable[[], Samples]]  # that relation maps are drawn from, in order


def experiment(name: str, dataset: str, cache_dir: Path, epoch: int | None, epochs: list[int],
               extraction: Extraction) -> Source:
    """The training set of an experiment, and of its other `epochs`."""
    found = published.find(name, dataset, cache_dir, epoch)
    load = partial(published.loader(found.domain).load_train, found.folder, extraction=extraction)
    if found.epoch is None and epochs:
        raise InputError(f"--epochs: the files of {name} carry no epoch")
    with processes.first_alone():
        samples = load(epoch=found.epoch)
        others = {f"epoch {other}": load(epoch=other) for other in epochs}
    mapped = {*epochs, found.epoch} if epochs else ()
    if not epochs and len(samples) <= AUTO_ROWS and extraction.checkpoint is None:
        mapped = found.saved_epochs()  # soon read, each with weights of its own
    return Source(samples, found.folder, others,
                  {str(other): partial(load, epoch=other) for other in sorted(mapped)})


def own(kind: str, source: Path, cache_dir: Path, name: str | None, extraction: Extraction
        ) -> Source:
    """A feature file ("features"), or images ("image_dir", "image_csv") as the network `name` sees
    them, with features kept in the folder of results."""
    folder = cache_dir / folder_name_of(source)
    if kind == "features":
        return Source(feature_file.read(source, labelled=True), folder, {}, {})
    from imagenet import own  # imports timm

    with processes.first_alone():
        return Source(own.load(_images(kind, source), folder, name, extraction), folder, {}, {})


def experiment_pair(name: str, dataset: str, cache_dir: Path, epoch: int | None,
                    extraction: Extraction) -> tuple[Samples, Samples, Path]:
    """Training and test rows of an experiment, and its folder."""
    found = published.find(name, dataset, cache_dir, epoch)
    with processes.first_alone():
        return (*published.loader(found.domain).load_ood(found.folder, found.epoch, extraction),
                found.folder)


def own_pair(kind: str, sources: tuple[Path, Path], cache_dir: Path, name: str | None,
             extraction: Extraction) -> tuple[Samples, Samples, Path]:
    """Training and test rows as in `own`, and the folder of the test rows' results."""
    source, test_source = sources
    folders = tuple(cache_dir / folder_name_of(path) for path in sources)
    if kind == "features":
        return (feature_file.read(source, labelled=False, ignore=("is_noisy",)),
                feature_file.read(test_source, labelled=False, ignore=("labels", "is_noisy")),
                folders[1])
    from imagenet import own  # imports timm

    with processes.first_alone():
        return (*own.load_ood(_images(kind, source), own.list_any(test_source), folders, name,
                              extraction), folders[1])


def _images(kind: str, source: Path):
    from imagenet import own

    return own.list_folder(source) if kind == "image_dir" else own.list_table(source)
