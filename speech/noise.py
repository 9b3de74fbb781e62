"""Wrong labels for the training clips, drawn once and saved. N clips, C classes."""

from pathlib import Path

import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.targets import read_targets
from speech.data import Clips

TARGETS = "target_noisy0.1.pt"  # the published name; 0.1 is NOISE
NOISE = 0.1


def noisy_labels(labels: Tensor, classes: int, *, seed: int, rate: float = NOISE
                 ) -> dict[str, Tensor]:
    """`targets` (N,), of which round(rate * N) rows, `idx_chg`, are changed to another class.

    Rows are drawn without replacement, new classes uniformly among the others, from `seed` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    changed = torch.randperm(len(labels), generator=generator)[:round(rate * len(labels))]
    changed = changed.sort().values
    step = torch.randint(1, classes, (len(changed),), generator=generator)
    targets = labels.clone()
    targets[changed] = (targets[changed] + step) % classes
    return {"targets": targets, "idx_chg": changed}


def planted_labels(folder: Path, clips: Clips, *, seed: int) -> Tensor:
    """The labels (N,) of the folder's target file, which is drawn first if it is missing.

    Raises InputError if the file does not fit the clips.
    """
    path = folder / TARGETS
    if len(clips.class_names) < 2:
        raise InputError(f"{clips.folder}: expected at least two classes")
    with writing.locked(folder):  # another training may be drawing them
        if not path.is_file():
            writing.save(noisy_labels(clips.labels, len(clips.class_names), seed=seed), path)
    labels = read_targets(path).labels
    check_count(path, labels, clips)
    return labels


def check_count(path: Path, labels: Tensor, clips: Clips) -> None:
    """Raise InputError unless a target file has one label for each training clip."""
    if len(labels) != len(clips):
        raise InputError(f"{path}: expected a label for each of the {len(clips)} training clips "
                         f"of {clips.folder}, got {len(labels)}")
