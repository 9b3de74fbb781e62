"""Images and labels of one digits experiment, determined by its folder's name.

    digits_noise<R>[_pair][_seed<S>]   all 1,797 digits, of which a share R has wrong labels
    digits[_seed<S>]                   clean training rows of the digits 0-7, a validation part
                                       with 8 % wrong labels, and the digits 8 and 9 as outliers
"""

import re
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from experiment.command.errors import InputError

NAMES = ("digits[_seed<S>]_<epoch> or digits_noise<R>[_pair][_seed<S>]_<epoch>, "
         "as in digits_60 or digits_noise0.08_60")
INLIER_CLASSES = 8  # of the experiment without noise in its name
VAL_NOISE = 0.08
VAL_SHARE = 0.3


@dataclass(frozen=True)
class Variant:
    """A parsed folder name. noise 0: the experiment with validation and OOD parts."""

    noise: float
    pair: bool  # wrong labels go to one other class each, instead of any other
    seed: int


@dataclass(frozen=True)
class Part:
    """Rows of the digits: images (N, 1, 8, 8) in 0..1, given labels (N,), changed rows."""

    images: Tensor
    labels: Tensor
    idx_chg: Tensor


def parse(folder: str) -> Variant:
    """Raises InputError for a name that is not one of NAMES."""
    match = re.fullmatch(r"digits(?:_noise(?P<noise>0?\.\d+)(?P<pair>_pair)?)?"
                         r"(?:_seed(?P<seed>\d{1,9}))?", folder)
    if match is None or (match["noise"] and not 0 < float(match["noise"]) < 1):
        raise InputError(f"--name {folder}: expected {NAMES}, with 0 < R < 1")
    return Variant(float(match["noise"] or 0), match["pair"] is not None, int(match["seed"] or 0))


def parts(variant: Variant) -> dict[str, Part]:
    """The parts "train", and "val" and "ood" where there is no noise in training."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    labels = torch.from_numpy(digits.target).long()
    if variant.noise:
        given, changed = change_labels(labels, 10, variant.noise, pair=variant.pair,
                                       seed=variant.seed)
        return {"train": Part(images, given, changed)}
    inlier = (labels < INLIER_CLASSES).nonzero()[:, 0]
    order = torch.randperm(len(inlier), generator=torch.Generator().manual_seed(variant.seed))
    n_val = round(VAL_SHARE * len(inlier))
    val, train = inlier[order[:n_val].sort().values], inlier[order[n_val:].sort().values]
    outlier = (labels >= INLIER_CLASSES).nonzero()[:, 0]
    nothing = torch.empty(0, dtype=torch.int64)
    return {
        "train": Part(images[train], labels[train], nothing),
        "val": Part(images[val], *change_labels(labels[val], INLIER_CLASSES, VAL_NOISE,
                                                pair=False, seed=variant.seed)),
        "ood": Part(images[outlier], labels[outlier], nothing),
    }


def change_labels(labels: Tensor, classes: int, share: float, *, pair: bool,
                  seed: int) -> tuple[Tensor, Tensor]:
    """Given labels (N,) of which `share` is wrong, and the changed rows in ascending order.

    A wrong label is any other class with equal chance, or with `pair` always the next one.
    """
    generator = torch.Generator().manual_seed(seed)
    n_changed = round(share * len(labels))
    changed = torch.randperm(len(labels), generator=generator)[:n_changed].sort().values
    step = torch.ones_like(changed) if pair else \
        torch.randint(1, classes, (n_changed,), generator=generator)
    given = labels.clone()
    given[changed] = (labels[changed] + step) % classes
    return given, changed
