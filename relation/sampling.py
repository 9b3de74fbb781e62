"""Which rows stand for all, where there are many."""

import torch
from torch import Tensor

from relation.near_pairs import Picked
from relation.tiles import row_slices

HASHED = 64  # entries of a row: all of a million rows would take as long as a product
BLOCK = 4096


def sample_rows(rows: Tensor, at_most: int, keys: Tensor) -> Tensor:
    """`at_most` of the given row numbers, in order: those of largest `keys` (N,), as even steps may
    meet one class only. The same rows wherever they stand, but for identical ones."""
    if len(rows) <= at_most:
        return rows
    return rows[keys[rows].topk(at_most).indices.sort().values]


def row_keys(features: Tensor | Picked) -> Tensor:
    """A number (N,) int64 for each row of (N, D), the same wherever the row stands: a hash of
    HASHED entries, at even steps, and of the sum of all. To be made of what is stored: rounding in
    what is computed changes it."""
    keys = torch.empty(len(features), dtype=torch.int64, device=features.device)
    step = max(1, features.shape[1] // HASHED)
    for rows in row_slices(len(features), BLOCK):
        bits = features[rows].float().contiguous().view(torch.int32)
        some = bits[:, ::step].long()
        factors = torch.arange(1, some.shape[1] + 1, device=bits.device) * 2654435761
        keys[rows] = ((some * (factors | 1)).sum(1) + bits.sum(1) * 40503) * 6364136223846793005
    return keys
