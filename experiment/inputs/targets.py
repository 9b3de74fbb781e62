"""Given labels, and which of them are known to be wrong: a target file, or a file of integers.

A target file is what the published experiments keep of a noisy training: target.pt of ImageNet and
the digits, target<rate>_large_4.pt of the texts, target_noisy0.1.pt of the sounds. `read_targets`
reads all of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import reading

KINDS = (".pt", ".npy", ".txt")


class Targets(NamedTuple):
    """The n rows that a noisy experiment was trained on."""

    rows: Tensor | None  # (n,) int64 row numbers in the full training set, if asked for
    labels: Tensor  # (n,) int64 given labels
    is_noisy: Tensor  # (n,) bool


def read_targets(path: Path, *, need_rows: bool = False) -> Targets:
    """A dict of targets, idx_chg (positions in targets that were changed) and, with `need_rows`,
    idx_clean (rows of the full training set).

    Raises InputError for a missing key or values that do not fit together.
    """
    keys = ("targets", "idx_chg", *(["idx_clean"] if need_rows else []))
    content = reading.load(path)
    found = list(content) if isinstance(content, dict) else [type(content).__name__]
    if not set(keys) <= set(found):
        raise InputError(f"{path}: expected a dict with {' and '.join(keys)}, got {found}")
    labels, changed, *rest = (_integers(content[key], f"{path}: {key}") for key in keys)
    rows = rest[0] if need_rows else None
    if rows is not None and len(rows) != len(labels):
        raise InputError(f"{path}: expected as many idx_clean as targets, got {len(rows)} and "
                         f"{len(labels)}")
    if len(labels) == 0:
        raise InputError(f"{path}: targets: expected at least one label, got none")
    if rows is not None and rows.min() < 0:
        raise InputError(f"{path}: idx_clean: expected row numbers, got {int(rows.min())}")
    if len(changed) and not (0 <= changed.min() and changed.max() < len(labels)):
        raise InputError(f"{path}: idx_chg: expected positions from 0 to {len(labels) - 1}, got "
                         f"{int(changed.min())} to {int(changed.max())}")
    is_noisy = torch.zeros(len(labels), dtype=torch.bool)
    is_noisy[changed] = True
    return Targets(rows, labels, is_noisy)


def read_labels(path: Path) -> Tensor:
    """N integers: a tensor, array or list in a .pt, an array in a .npy, one a line in a .txt."""
    if path.suffix == ".pt":
        return _integers(reading.load(path), str(path))
    if path.suffix not in KINDS:
        raise InputError(f"{path}: expected a file of integers ending in {', '.join(KINDS)}")
    if path.suffix == ".npy":
        return _integers(reading.load_npy(path), str(path))
    try:
        return _integers(np.loadtxt(path, dtype=np.int64, ndmin=1), str(path))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable file of integers ({error})") from error


def _integers(values: Any, source: str) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{source}: expected integers ({error})") from error
    if tensor.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.is_complex() \
            or tensor.dtype == torch.bool:
        raise InputError(f"{source}: expected a list of integers, got {tensor.dtype} of shape "
                         f"{tuple(tensor.shape)}")
    return tensor.long()
