"""The largest and smallest relations of each source row, streamed: no (N, M) array, exact.

A sample of the target rows tells for each source row a value that somewhat more than the k + 1 best
should exceed. Tile by tile, what does exceed it is kept; in the end the best of that are the answer
if they are k + 1, and a row for which they are fewer is done again without a guess. So almost all
time goes into the products. Nothing is skipped by the threshold here, since it does not apply.

N source rows, M target rows, B source rows at a time, K columns of a tile.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from relation.blocks import (
    Buffers,
    Positions,
    Side,
    cosines,
    flip_unequal,
    inverse_norms,
    numbered,
    products,
)
from relation.kernel import Rows, unit_rows
from relation.parallel import add_up, in_order, rank_and_count
from relation.tiles import pair_rows, row_slices

LARGEST_BLOCK = 1024  # source rows
TILE_COLUMNS = 1024  # target rows at a time
SAMPLE = 4096  # target rows that the guess is made from
SPARE = 2  # times k + 1 are meant to exceed it: four deviations of the sample for k = 1000
ROOM = 3  # times k + 1 are kept at most, before all but the best are dropped


@torch.no_grad()
def relation_topk(features: Tensor, probs: Tensor | None, labels: Tensor | None = None, *,
                  target_features: Tensor | None = None, target_probs: Tensor | None = None,
                  target_labels: Tensor | None = None, kernel: str = "cos_p", k: int,
                  temperature: float = 4, threshold: float = 0.03, chunk: int = 250,
                  progress: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k + 1 largest and the k + 1 smallest relations of each source row.

    Returns top_values, top_indices, low_values, low_indices, each (N, k + 1), the most extreme
    first; indices are target rows. Taken before the threshold and the power, which are accepted as
    in `relation_scores` and change nothing. k + 1, because in a set related to itself the row's own
    relation is among the largest. Rows of equal relation come in no particular order.

    Raises ValueError as `relation_scores` does, and for k outside 0 .. M - 1.
    """
    source, target = pair_rows(features, probs, labels, target_features, target_probs,
                               target_labels, kernel=kernel)
    shape, device = (len(features), k + 1), features.device
    found = [(torch.zeros(shape, device=device),
              torch.zeros(shape, dtype=torch.int64, device=device)) for _ in (True, False)]
    for rows, best in extremes(source, target, sides=(True, False), kernel=kernel, k=k,
                               chunk=chunk, progress=progress):
        for (values, indices), (best_values, best_indices) in zip(found, best):
            values[rows], indices[rows] = best_values, best_indices
    (top, top_at), (low, low_at) = found
    add_up(top, top_at, low, low_at)
    return top, top_at, low, low_at


def extremes(source: Rows, target: Rows, *, sides: tuple[bool, ...], kernel: str, k: int,
             chunk: int, progress: bool) -> Iterator[tuple[slice, list[tuple[Tensor, Tensor]]]]:
    """Yield source rows with (values, indices), each (B, k + 1), for each side: True the largest.

    Under torch.distributed only the rows of this process.
    """
    n, m = len(source.features), len(target.features)
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, got {chunk}")
    if not 0 <= k < m:
        raise ValueError(f"k: expected 0 to {m - 1} (k + 1 of {m} target rows), got {k}")
    labels = numbered(source.labels, target.labels)
    first, second = _side(source, labels[0], kernel), _side(target, labels[1], kernel)
    buffers = Buffers()
    rank, count = rank_and_count()
    mine = list(row_slices(n, min(chunk, LARGEST_BLOCK)))[rank::count]

    @torch.no_grad()  # of each thread's own
    def best_of(rows: slice) -> list[tuple[Tensor, Tensor]]:
        block = torch.arange(rows.start, rows.stop, device=first.inverse_norm.device)
        return _best(first, block, second, k + 1, sides, buffers)

    with tqdm(total=sum(rows.stop - rows.start for rows in mine), desc="nearest", unit=" rows",
              unit_scale=True, delay=1, disable=not progress) as bar:
        for rows, best in zip(mine, in_order(best_of, mine, source.features.device)):
            yield rows, best
            bar.update(rows.stop - rows.start)


def _best(source: Side, rows: Tensor, target: Side, keep: int, sides: tuple[bool, ...],
          buffers: Buffers, *, guess: bool = True) -> list[tuple[Tensor, Tensor]]:
    """The `keep` most extreme relations of the rows (B,): values and indices (B, keep) per side."""
    m = len(target.inverse_norm)
    block = _block(source, rows)
    some = round(SAMPLE * SPARE * keep / m)  # of the sample should exceed the guess
    if guess and m >= 4 * SAMPLE and some < SAMPLE / 4:
        sample = torch.arange(0, m, m // SAMPLE, device=rows.device)
        r = _relations(block, target, sample, buffers)
        best = [r.topk(max(8, some), largest=side, sorted=False)[0] for side in sides]
        bounds = [values.amin(1, True) if side else -values.amax(1, True)
                  for values, side in zip(best, sides)]
    else:
        bounds = [torch.full((len(rows), 1), -torch.inf, device=rows.device) for _ in sides]
    stores = [_Store(keep, bound) for bound in bounds]
    for columns in row_slices(m, TILE_COLUMNS):
        r = _relations(block, target, columns, buffers)
        for store, largest in zip(stores, sides):
            store.add(r if largest else -r, columns.start)
    found = [store.best(sign=1 if largest else -1) for store, largest in zip(stores, sides)]
    short = torch.stack([values[:, -1].isinf() for values, _ in found]).any(0).nonzero()[:, 0]
    if guess and len(short) > 0:
        again = _best(source, rows[short], target, keep, sides, buffers, guess=False)
        for (values, indices), (new_values, new_indices) in zip(found, again):
            values[short], indices[short] = new_values, new_indices
    return found


def _block(source: Side, rows: Tensor) -> Rows:
    """The rows (B,) in float32, features of unit norm, labels numbered."""
    block = source.rows.take(rows)
    return Rows(block.features.float() * source.inverse_norm[rows, None],
                None if block.probs is None else block.probs.float(),
                None if source.label is None else source.label[rows])


def _relations(block: Rows, target: Side, columns: Positions, buffers: Buffers) -> Tensor:
    """r (B, K) of `kernel.py` between unit features and the columns, in a buffer."""
    r = cosines(target, block.features, columns, buffers).clamp_(min=0)
    if block.probs is not None:
        r *= products(target, block.probs, columns, buffers)
    if block.labels is not None:
        flip_unequal(r, block.labels, target.label[columns], buffers)
    return r


class _Store:
    """For each of B rows the values that exceed a bound, in no order."""

    def __init__(self, keep: int, bound: Tensor) -> None:
        """`keep` are asked for in the end; `bound` (B, 1) is what must be exceeded."""
        shape, device = (len(bound), ROOM * keep), bound.device
        self.keep, self.bound = keep, bound
        self.values = torch.full(shape, -torch.inf, device=device)
        self.indices = torch.zeros(shape, dtype=torch.int64, device=device)
        self.filled = torch.zeros(len(bound), dtype=torch.int64, device=device)

    def add(self, values: Tensor, start: int) -> None:
        """Take in values (B, K) of the indices from `start` on."""
        at = _flat_where_above(values, self.bound)
        rows = torch.arange(len(values), device=at.device)
        before = torch.searchsorted(at, values.shape[1] * rows)  # those of earlier rows
        counts = torch.diff(before, append=before.new_tensor([len(at)]))
        if int((self.filled + counts).max()) > self.values.shape[1]:
            self._cut(values, start)
            return
        place = torch.arange(len(at), device=at.device) + (
            self.filled - before + self.values.shape[1] * rows).repeat_interleave(counts)
        column = at + (start - values.shape[1] * rows).repeat_interleave(counts)
        self.values.view(-1).index_copy_(0, place, values.view(-1).index_select(0, at))
        self.indices.view(-1).index_copy_(0, place, column)
        self.filled += counts

    def best(self, *, sign: int) -> tuple[Tensor, Tensor]:
        """Values times sign and indices (B, keep), the largest value first; infinite where there
        were fewer."""
        values, at = self.values[:, :max(self.keep, int(self.filled.max()))].topk(self.keep)
        return sign * values, self.indices.gather(1, at)

    def _cut(self, values: Tensor, start: int) -> None:
        """Take in values, drop all but the best, and raise the bound."""
        new = torch.arange(start, start + values.shape[1], device=values.device)
        indices = torch.cat([self.indices, new.expand(len(values), -1)], 1)
        values = torch.cat([self.values, torch.where(values > self.bound, values, -torch.inf)], 1)
        best, at = values.topk(self.keep, sorted=False)
        self.values.fill_(-torch.inf)
        self.values[:, :self.keep] = best
        self.indices[:, :self.keep] = indices.gather(1, at)
        self.filled.fill_(self.keep)  # with -inf where there are fewer yet
        self.bound = torch.maximum(self.bound, best.amin(1, keepdim=True))


def _flat_where_above(values: Tensor, bound: Tensor) -> Tensor:
    """Ascending flat indices where values (B, K) exceed bound (B, 1)."""
    if values.device.type == "cpu":  # numpy takes a quarter of the time
        return torch.from_numpy(np.flatnonzero(values.numpy() > bound.numpy()))
    return (values > bound).view(-1).nonzero()[:, 0]


def _side(rows: Rows, label: Tensor | None, kernel: str) -> Side:
    """Rows as they lie; with unit features of their own where norms are extreme."""
    if kernel == "cos":
        rows = rows._replace(probs=None)
    norms = inverse_norms(rows.features)
    if norms is None:
        rows = rows._replace(features=unit_rows(rows.features))
        norms = torch.ones(len(rows.features), device=rows.features.device)
    return Side(rows, None, norms, label)
