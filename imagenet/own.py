"""The user's own images: a folder with one folder per class, or a table of paths and labels.

Features come from any network (`find`). They are cached as feat_<network>-<digest>.pt in the data's
results folder and recomputed when files or weights change.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from experiment.command import processes
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.files.results_folder import results_folder
from experiment.inputs import media, probe
from experiment.inputs.extraction import Extraction
from experiment.inputs.own_data import (
    PathColumns,
    Rows,
    files_of_table,
    labelled_samples,
    notes_of,
    stamps_of,
)
from experiment.inputs.own_head import OwnHead
from experiment.inputs.samples import Samples, probs_of
from imagenet import features, heads, hub, models, transform
from imagenet.data import ImageSet
from imagenet.folders import Images, list_any, list_folder

NETWORK = "resnet50"  # the default: 100 MB, and the fastest of the paper's networks


def list_table(path: Path, named: PathColumns = (None, None)) -> Images:
    """The images of a table with columns of paths and labels, usual ones or `named`."""
    return Images(*files_of_table(path, named))


def list_source(kind: str, path: Path, named: PathColumns = (None, None)) -> Images:
    """The images of an "image_dir" or an "image_csv"."""
    return list_folder(path) if kind == "image_dir" else list_table(path, named)


def load_source(images: Images, path: Path, cache_dir: Path, name: str | None,
                extraction: Extraction) -> tuple[Samples, Path]:
    """Samples of what `list_source` found at a path, and the folder of their results."""
    with processes.first_before_others():
        folder = results_folder(cache_dir, path)
        return load(images, folder, name, extraction), folder


def load_source_pair(kind: str, paths: tuple[Path, Path], cache_dir: Path, name: str | None,
                     extraction: Extraction, named: PathColumns = (None, None)
                     ) -> tuple[Samples, Samples, Path]:
    """Training rows as in `load_source`, rows of any folder of test images, and the latter's
    folder of results."""
    images, test = list_source(kind, paths[0], named), list_any(paths[1])
    with processes.first_before_others():
        folders = results_folder(cache_dir, paths[0]), results_folder(cache_dir, paths[1])
        return (*load_ood(images, test, folders, name, extraction), folders[1])


def load(images: Images, folder: Path, name: str | None, extraction: Extraction, *,
         labels_matter: bool = True) -> Samples:
    """Samples of labelled images, by network `name`; features are cached in `folder`."""
    network = _network(name, extraction)
    rows, found = _features(images, folder, network, extraction)
    model, assumed = models.load(network)
    rows = replace(rows, notes=(*rows.notes, *_said(network, model, assumed)))
    head = heads.head_of(model)
    own = head and OwnHead(probe.Head(*head)(found), class_names(network), probe.Head(*head))
    return labelled_samples(rows, found, own, progress=extraction.progress,
                            labels_matter=labels_matter, **_shown(images, rows))


def load_ood(train: Images, test: Images, folders: tuple[Path, Path], name: str | None,
             extraction: Extraction) -> tuple[Samples, Samples]:
    """Training rows, and test rows whose probabilities come from the same head.

    `folders`: where the features of either are cached.
    """
    trained = load(train, folders[0], name, extraction, labels_matter=False)
    network = _network(name, extraction)
    rows, found = _features(test, folders[1], network, extraction)
    logits = probe.Head(trained.weight, trained.bias)(found)
    return trained, Samples(
        source=rows.source, features=found, probs=probs_of(logits), logits=logits,
        weight=trained.weight, bias=trained.bias, class_names=trained.class_names, ids=rows.names,
        index=torch.tensor(rows.index), own_data=True, left_out=rows.left_out,
        notes=notes_of(rows), **_shown(test, rows))


def _features(images: Images, folder: Path, network: models.Network, extraction: Extraction
              ) -> tuple[Rows, Tensor]:
    """Features (n, D) of the readable rows, from the cache if it is of these files."""
    rows = images.rows
    files = [images.files[row].absolute() for row in rows.index]
    listed = ImageSet(Path(rows.source), np.array([os.fsencode(path) for path in files]), None, 0,
                      {"images": len(files)}, stamps_of(files), published=False)
    # Where data and weights lie is part of the name, so that two of one name share no file.
    name = writing.distinct(network.name, Path(rows.source).absolute(),
                            network.weights and network.weights.absolute())
    path = folder / "features" / f"feat_{name}.pt"
    if not path.is_file() or features.misfit(path, network, listed):
        # An unreadable image is reported, not an error; its row of zeros is dropped below.
        features.extract(network, listed, path, replace(extraction, skip_corrupt=True))
    record = features.record_of(path)
    if record is None:
        raise InputError(f"{path.with_suffix('.json')}: missing, so the origin of the features "
                         f"beside it is unknown; remove them too")
    unreadable = dict(zip(record.unreadable_rows, record.unreadable))
    found = reading.load(path)
    if unreadable:
        rows = rows.drop({rows.index[at]: problem.replace(f"{files[at]}: ", "")
                          .replace(f" {str(files[at])!r}", "")  # Pillow names it too
                          for at, problem in unreadable.items()})
        readable = torch.ones(len(found), dtype=torch.bool)
        readable[list(unreadable)] = False
        found = found[readable]
    return rows, found


def _network(name: str | None, extraction: Extraction) -> models.Network:
    network = find(name or NETWORK, extraction.checkpoint)
    given = {option: getattr(extraction, option) for option in models.PIXELS
             if getattr(extraction, option) is not None}
    if given and network.is_folder:
        raise InputError(f"--{next(iter(given))}: the folder --name {name} says what images its "
                         f"network takes")
    return replace(network, **given)


def _said(network: models.Network, model: nn.Module, assumed: Sequence[str]) -> tuple[str, ...]:
    """A note on what was assumed of the user's own weights, or of images of another size."""
    if network.is_folder or network.weights is None and network.images == network.architecture:
        return ()
    default = [f"--{name}" for name in models.PIXELS if getattr(network, name) is None]
    options = f" (as timm says, without {', '.join(default)})" if default else ""
    return ("; ".join([f"network: {network.architecture} with the weights of {network.source}",
                       *assumed, transform.in_words(network, model) + options]),)


def _shown(images: Images, rows: Rows) -> dict:
    """Thumbnails for the report, and paths for suspects.csv."""
    paths = [str(images.files[row].absolute()) for row in rows.index]
    return dict(content={"filepath": paths}, media=partial(_picture, images.files))


def _picture(files: Sequence[Path], row: int) -> media.Media:
    return media.image_file(files[row])


def find(name: str, checkpoint: Path | None) -> models.Network:
    """The network for the user's images: a model of timm, or a folder with config and weights.

    `checkpoint` replaces timm's own weights; they may lack a head.
    """
    path = Path(name)
    if (path / hub.CONFIG).is_file():
        if checkpoint is not None:
            raise InputError(f"--checkpoint: the folder --name {name} has weights of its own")
        return models.Network(path.resolve().name, "folder", path.resolve(), needs_head=False)
    if path.is_file():
        raise InputError(f"--name {name}: a file of weights does not say of which network; give "
                         f"that as -n, a name of timm, and the file as --checkpoint")
    if path.is_dir() and not timm.is_model(name):
        raise InputError(f"--name {name}: no {hub.CONFIG} in this folder; expected one that timm "
                         f"or transformers wrote")
    if "/" in name:
        raise InputError(f"--name {name}: no such folder")
    return replace(models.find(path, 0, checkpoint), needs_head=False)


def class_names(network: models.Network) -> tuple[str, ...] | None:
    """The names of the network's classes, if it has any."""
    return hub.class_names(network.weights) if network.is_folder else None
