"""The relation map: how a row's relations to all others went while the network was trained.

For a chosen row i and every row j, over the E epochs whose features were kept, with r of
`kernel.py` before threshold and power (Kim, Yun, Song 2023, figure 1):

    mean_ij     = 1/E  sum over e of r_e(i, j)
    variance_ij = 1/E  sum over e of (r_e(i, j) - mean_ij)^2
    last_ij     = r_E(i, j)

A row of the same label that was near from the start has a large mean and little variance; one that
contradicts the chosen row's label a mean far below 0; one that the network learnt to tell apart, or
to confuse, a large variance.

K chosen rows, N rows, E epochs.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from relation.kernel import relation
from relation.tiles import pair_rows, row_slices, wide_zeros

BLOCK = 8192  # rows compared at a time: 32 MiB of features of width 1,024


class RelationMap(NamedTuple):
    """mean, variance, last: (K, N) float32 each; the chosen row's relation to itself is in it."""

    mean: Tensor
    variance: Tensor
    last: Tensor


@torch.no_grad()
def relation_map(epochs: Iterable[tuple[Tensor, Tensor | None, Tensor | None]], rows: Tensor, *,
                 kernel: str = "cos_p", progress: bool = False) -> RelationMap:
    """Mean, variance and last value of the relation of the chosen rows (K,) to all N rows.

    `epochs` gives features (N, D), probs (N, C) and labels (N,) or None of one epoch after the
    other, the last one last; each is read once, so that one at a time need be in memory. Features
    are taken as they come from the model. Beside them (K, N) sums are held, in float64: by
    Welford's update, since r^2 summed up would lose a small variance.

    Raises ValueError for no epochs, epochs of different N, rows outside 0 .. N - 1, and as
    `relation_scores` does.
    """
    count = 0
    for features, probs, labels in tqdm(epochs, desc="relation map", unit=" epochs", delay=1,
                                        disable=not progress):
        every, _ = pair_rows(features, probs, labels, None, None, None, kernel=kernel)
        n = len(features)
        if count == 0:
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n:
                raise ValueError(f"rows: expected 0 to {n - 1}, got {int(rows.min())} to "
                                 f"{int(rows.max())}")
            mean, squares = (wide_zeros((len(rows), n), features.device) for _ in range(2))
            last = torch.zeros(len(rows), n, device=features.device)
        elif n != mean.shape[1]:
            raise ValueError(f"epochs: expected {mean.shape[1]} rows in each, got {n}")
        count += 1
        chosen = every.take(rows).ready()
        for columns in row_slices(n, BLOCK):
            r = relation(chosen, every.take(columns).ready(), kernel=kernel)
            change = r - mean[:, columns]
            mean[:, columns] += change / count
            squares[:, columns] += change * (r - mean[:, columns])
            last[:, columns] = r
    if count == 0:
        raise ValueError("epochs: expected at least one, got none")
    return RelationMap(mean.float(), (squares / count).float(), last)


def strongest(found: RelationMap, rows: Tensor, k: int) -> Tensor:
    """The min(k, N - 1) other rows (K, ...) that matter most to each chosen row (K,), in order.

    By the mean square of the relation over the epochs, which is mean^2 + variance: a row far from
    the origin of the map, in whichever direction.
    """
    square = found.mean.square() + found.variance
    square[torch.arange(len(rows), device=rows.device), rows] = -1  # not the row itself
    return square.topk(min(k, square.shape[1] - 1), dim=1).indices
