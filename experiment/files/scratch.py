"""Arrays that need not fit into memory, in an unlinked temporary file."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**28  # bytes up to which memory is used


def empty(folder: Path, rows: int, columns: int) -> Tensor:
    """Uninitialised float32 (rows, columns), memory-mapped from a file in `folder`.

    In memory if it is small, or if the folder has no room for it.
    """
    size = 4 * rows * columns
    if size > IN_MEMORY:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                # Reserve all of it now: a write into a mapped file on a full disk is a crash.
                os.posix_fallocate(file.fileno(), 0, size)
                return torch.from_numpy(np.memmap(file, np.float32, shape=(rows, columns)))
        except (OSError, AttributeError):  # no room, not writable; not a POSIX system
            pass
    return torch.empty(rows, columns)
