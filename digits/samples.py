"""Samples of a digits experiment from the files that `build` wrote.

Nothing is extracted here: `extraction` is ignored, but every domain's loader has it.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from digits.data import parse, parts
from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples, probs_of
from experiment.inputs.targets import read_targets


def load_train(folder: Path, epoch: int, extraction: Extraction | None = None) -> Samples:
    """Training rows with their given labels; is_noisy where labels were changed."""
    return _labelled(folder, epoch, "train", "target.pt")


def load_val(folder: Path, epoch: int, extraction: Extraction | None = None) -> Samples:
    """The held-out rows with their given labels; is_noisy where labels were changed."""
    return _labelled(folder, epoch, "val", "target_val.pt")


def load_ood(folder: Path, epoch: int, extraction: Extraction | None = None
             ) -> tuple[Samples, Samples]:
    """Training rows; and test rows: the held-out ones, then the digits 8 and 9 with is_ood."""
    train, val = load_train(folder, epoch), load_val(folder, epoch)
    unseen = _features(folder, epoch, "ood")
    logits = unseen @ train.weight.T + train.bias
    test = Samples(
        source=str(folder), features=torch.cat([val.features, unseen]),
        probs=torch.cat([val.probs, probs_of(logits)]), logits=torch.cat([val.logits, logits]),
        is_ood=torch.arange(len(val) + len(unseen)) >= len(val),
        group=["id"] * len(val) + ["digits 8, 9"] * len(unseen),
        weight=train.weight, bias=train.bias, held_out=True,
        media=_pictures(folder, "val", "ood"))
    return train, test


def _labelled(folder: Path, epoch: int, part: str, target_file: str) -> Samples:
    features = _features(folder, epoch, part)
    targets = read_targets(_existing(folder / target_file, folder, epoch))
    model = reading.load(_existing(folder / f"checkpoint-{epoch}.pth", folder, epoch))["model"]
    weight, bias = model["head.weight"], model["head.bias"]
    logits = features @ weight.T + bias
    return Samples(source=str(folder), features=features, probs=probs_of(logits), logits=logits,
                   labels=targets.labels, is_noisy=targets.is_noisy, weight=weight, bias=bias,
                   class_names=[str(digit) for digit in range(len(bias))],
                   held_out=part == "val", media=_pictures(folder, part))


def _pictures(folder: Path, *names: str) -> Callable[[int], media.Media]:
    """Row number, over the parts one after the other -> the digit, dark on white."""
    @functools.cache
    def images() -> Tensor:
        found = parts(parse(folder.name))
        return torch.cat([found[name].images for name in names])

    def show(row: int) -> media.Media:
        return media.image(Image.fromarray((255 * (1 - images()[row, 0])).byte().numpy()))
    return show


def _features(folder: Path, epoch: int, part: str) -> Tensor:
    return reading.load(_existing(folder / f"features/feat_{part}_{epoch}.pt", folder, epoch))


def _existing(path: Path, folder: Path, epoch: int) -> Path:
    if not path.is_file() and parse(folder.name).noise and "train" not in path.name \
            and path.suffix == ".pt" and path.name != "target.pt":
        raise InputError(f"--name {folder.name}_{epoch}: digits with noise in their name have no "
                         f"validation and OOD parts; digits_{epoch} has")
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with "
                         f"python download.py -n {folder.name}_{epoch}")
    return path
