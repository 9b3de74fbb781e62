"""Which rows stand for all, where there are many."""

import torch
from torch import Tensor


def sample_rows(rows: Tensor, at_most: int) -> Tensor:
    """`at_most` of the given row numbers, in order. Random, as even steps may meet one class only;
    with a fixed seed, so that the same data give the same rows."""
    if len(rows) <= at_most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:at_most].sort().values.to(rows.device)]


def hashed(bits: Tensor) -> Tensor:
    """A number (N,) int64 for each row of integers (N, K), the same wherever the row stands."""
    factors = torch.arange(1, bits.shape[1] + 1, device=bits.device) * 2654435761
    return (bits.long() * (factors | 1)).sum(1) * 6364136223846793005
