"""Arrays that need not fit into memory: a file without a name that goes with the process."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**28  # bytes up to which a file is not worth it


def empty(folder: Path, rows: int, columns: int) -> Tensor:
    """float32 (rows, columns) with anything in it, memory-mapped from a file in `folder`.

    In memory where it is small, or where the folder has no room for it.
    """
    size = 4 * rows * columns
    if size > IN_MEMORY:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                # Room for all of it now: a write into a mapped file that finds none is a crash.
                os.posix_fallocate(file.fileno(), 0, size)
                return torch.from_numpy(np.memmap(file, np.float32, shape=(rows, columns)))
        except (OSError, AttributeError):  # no room, not writable; not a POSIX system
            pass
    return torch.empty(rows, columns)
