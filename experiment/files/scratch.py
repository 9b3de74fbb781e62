"""Arrays that need not fit into memory, in an unlinked temporary file."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**28  # bytes up to which memory is used


def empty(folder: Path | None, rows: int, columns: int, dtype: torch.dtype = torch.float32
          ) -> Tensor:
    """Uninitialised (rows, columns), memory-mapped from a file in `folder`.

    In memory if it is small, or if there is no folder, or no room in it.
    """
    size = dtype.itemsize * rows * columns
    if folder is not None and size > IN_MEMORY:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                # Reserve all of it now: a write into a mapped file on a full disk is a crash.
                os.posix_fallocate(file.fileno(), 0, size)
                mapped = np.memmap(file, np.uint8, shape=(size,))
                return torch.from_numpy(mapped).view(dtype).view(rows, columns)
        except (OSError, AttributeError):  # no room, not writable; not a POSIX system
            pass
    return torch.empty(rows, columns, dtype=dtype)
