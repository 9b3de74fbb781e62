"""Arrays that need not fit into memory, in an unlinked temporary file."""

import contextlib
import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**28  # bytes up to which memory is used
BLOCK = 8192  # rows at a time


class Scratch:
    """`rows`, a Tensor (N, D), which holds what is written to it, by any thread.

    It is memory-mapped from a file in `folder`; in memory if it is small, or if there is no folder,
    or no room in it. Blocks go to the file as they are: the first write to each page of a mapping
    takes four times as long.
    """

    def __init__(self, folder: Path | None, rows: int, columns: int,
                 dtype: torch.dtype = torch.float32) -> None:
        size = dtype.itemsize * rows * columns
        self._file = None
        if folder is not None and size > IN_MEMORY:
            try:
                with contextlib.ExitStack() as stack:
                    file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                    # Reserve all of it now: a write into a mapped file on a full disk is a crash.
                    os.posix_fallocate(file.fileno(), 0, size)
                    mapped = np.memmap(file, np.uint8, shape=(size,))
                    self.rows = torch.from_numpy(mapped).view(dtype).view(rows, columns)
                    weakref.finalize(self, stack.pop_all().close)
                self._file = file
                return
            except (OSError, AttributeError):  # no room, not writable; not a POSIX system
                pass
        self.rows = torch.empty(rows, columns, dtype=dtype)

    def write(self, start: int, block: Tensor) -> None:
        """Rows from `start` on; ValueError for a block (B, D) that is not of this shape."""
        place = self.rows[start:start + len(block)]
        if block.shape != place.shape:
            raise ValueError(f"rows {tuple(block.shape)} from {start} on do not fit into "
                             f"{tuple(self.rows.shape)}")
        if self._file is None:
            place.copy_(block)
            return
        block = block.to(self.rows.dtype).contiguous()
        content = memoryview(block.view(torch.uint8).flatten().numpy())
        at = start * self.rows.shape[1] * self.rows.itemsize
        while content:
            written = os.pwrite(self._file.fileno(), content, at)
            content, at = content[written:], at + written


def taken(folder: Path | None, values: Tensor, which: Tensor) -> Tensor:
    """values[which] (K, D), in such a file if it is large and on the CPU."""
    if values.device.type != "cpu":
        return values[which]
    result = Scratch(folder, len(which), values.shape[1], values.dtype)
    for start in range(0, len(which), BLOCK):
        result.write(start, values[which[start:start + BLOCK]])
    return result.rows


def joined(folder: Path | None, *parts: Tensor) -> Tensor:
    """All rows (N, D) of the parts, in float32, in such a file if they are large."""
    result = Scratch(folder, sum(map(len, parts)), parts[0].shape[1])
    start = 0
    for part in parts:
        for block in part.split(BLOCK):
            result.write(start, block)
            start += len(block)
    return result.rows
