"""Rows of the same bytes, found by their digests: 18 bytes a row, whatever the features weigh."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from relation.parallel import in_order
from relation.tiles import row_slices

BLOCK = 2**12  # rows that are read at a time


def digests_of(features: Tensor) -> np.ndarray:
    """(N,) 16 bytes for each row: different rows have different ones, short of breaking BLAKE2."""
    found = np.empty(len(features), dtype="S18")

    def compute(block: slice) -> None:
        rows = features[block].detach().contiguous().cpu().view(torch.uint8).numpy()
        # numpy drops zeros at an end, so a one stands there.
        found[block] = [b"\1" + hashlib.blake2b(row, digest_size=16).digest() + b"\1"
                        for row in rows]

    for _ in in_order(compute, list(row_slices(len(features), BLOCK)), features.device):
        pass
    return found


def first_identical(digests: np.ndarray) -> Tensor:
    """(N,) the first row identical to each row."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return torch.from_numpy(first[inverse])


def where_among(digests: np.ndarray, wanted: np.ndarray) -> Tensor:
    """(M,) the first of the rows (N,) with the digest of each wanted one, -1 where none has it."""
    known, first = np.unique(digests, return_index=True)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return torch.from_numpy(np.where(known[at] == wanted, first[at], -1))
