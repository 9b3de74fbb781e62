"""Which network -n stands for where the images are the user's own, and what it says of classes."""

from dataclasses import replace
from pathlib import Path

import timm
from torch import nn

from experiment.errors import InputError
from imagenet import hub, models


def find(name: str, checkpoint: Path | None) -> models.Network:
    """The network for anyone's images: a model of timm, or a folder with config and weights.

    `checkpoint` takes the place of timm's own weights; they may lack a head.
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


def own_head(network: models.Network) -> models.Head | None:
    """The final layer of a network that may lack one."""
    classifier = models.build(network).get_classifier()
    return models.head_of(classifier) if isinstance(classifier, nn.Linear) else None


def class_names(network: models.Network) -> tuple[str, ...] | None:
    """What the classes of its final layer are called, where the network says so."""
    return hub.class_names(network.weights) if network.is_folder else None
