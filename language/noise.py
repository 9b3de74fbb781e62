"""The published noisy labels: some of the labels that a good model is confident of are made wrong.

N rows, C classes. Kim, Yun, Song 2023, section 5; the model there is a RoBERTa-Large at epoch 4 on
the clean labels; its schedule is not stated.
"""

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import writing
from language import PUBLISHED

TARGET = "target0.1_large_4.pt"  # the published name: share, model size and epoch
RATE = re.compile(r"noise(\d+(?:\.\d+)?)")  # in a model's name, such as roberta-base_fp16_noise0.1
SURE = 0.6  # a label of higher probability counts as right
EVERY = 10  # every tenth row with such a label is changed
RATIO = 0.1
SEED = 0


def noisy_labels(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (N,) with every tenth sure one changed, and the changed rows, ascending.

        sure    = rows, in order, with probs[row, labels[row]] > 0.6
        changed = sure[0], sure[10], sure[20], ...     at most ceil(0.1 * number of sure rows)
        new     = (old + d) mod C, with d drawn evenly from 1 .. C - 1, always with the same seed

    For two classes that is a flip. probs (N, C), labels (N,) int64. Raises InputError if no row is
    sure, or for a single class.
    """
    classes = probs.shape[1]
    if classes < 2:
        raise InputError("noisy labels: expected at least two classes, got one")
    own = probs.gather(1, labels[:, None])[:, 0]
    sure = (own > SURE).nonzero()[:, 0]
    if len(sure) == 0:
        raise InputError(f"noisy labels: expected rows whose label has a probability above {SURE}, "
                         f"got none in {len(labels)}; was the model trained on these labels?")
    changed = sure[::EVERY][:math.ceil(RATIO * len(sure))]
    # The same numbers as after torch.manual_seed(0), without touching the global generator.
    steps = torch.randint(1, classes, (len(changed),),
                          generator=torch.Generator().manual_seed(SEED))
    targets = labels.clone()
    targets[changed] = (labels[changed] + steps) % classes
    return targets, changed


def target_file(folder: Path, model_name: str) -> tuple[Path, tuple[str, ...]]:
    """The file of noisy labels that a model was trained on, and a note where its name leaves that
    open.

    <folder>/target<rate>_large_4.pt, with the rate in the model's name (..._noise0.2); for a name
    without one the published 0.1. The file may be missing. Raises InputError if it is, but labels
    of other rates are there: they are not what the model was trained on.
    """
    stated = RATE.search(model_name)
    path = folder / (f"target{float(stated[1]):g}_large_4.pt" if stated else TARGET)
    if not path.is_file():
        others = sorted(other.name for other in folder.glob("target*_large_4.pt"))
        if others:
            rate = f"noise {float(stated[1]):g}" if stated else "no rate of noise"
            raise InputError(f"{path}: no such file, though the model's name {model_name} states "
                             f"{rate}; expected a model named as the labels here are "
                             f"({', '.join(others)}), as in {PUBLISHED}")
    return path, () if stated else (f"the model's name {model_name} states no rate of noise: "
                                    f"noisy labels are those of {path.name}, the published rate",)


def save_targets(targets: Tensor, changed: Tensor, path: Path) -> None:
    """Write noisy labels (N,) and the changed rows in the published form."""
    writing.save({"idx_clean": None, "idx_chg": changed, "targets": targets.tolist()}, path)
