"""Which pairs cannot hold an edge above the threshold: exact, never a guess.

An edge of the kernel `cos_p` needs  cos(f_i, f_j) * (p_i . p_j) > threshold,  and a cosine is at
most 1 (1 + (D + C) 2^-23 as computed in float32), so p_i . p_j itself must exceed the threshold.
With many classes few pairs do. Split each p into its peaks, the entries above a floor, and the
rest, and let L be the largest sum of a p (1 up to rounding). As no entry of the rest exceeds the
floor,

    p_i . p_j  <=  peaks_i . peaks_j + 2 L floor

and for a block of source rows with m_c = max over its rows of p_ic

    p_i . p_j  <=  sum over the peaks c of j with m_c > floor of m_c p_jc  +  2 L floor.

The sum runs over lists, class by class, of the rows that have a peak there: a few additions for
each target row that shares a class with the block, none for the others. What it lets through is
compared by its true p_i . p_j before any feature is read (see `sums.py`). Where 2 L floor reaches
the threshold, as sums far above 1 make it, nothing is pruned.

N source rows, M target rows, D features, C classes, E peaks.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.tiles import row_slices

# Share of the threshold -> the most peaks for each row. A low floor leaves little slack.
FLOORS = {1 / 16: 16, 1 / 4: 64}
SAMPLE_ROWS = 2048  # that tell how many there are
SCAN_ROWS = 1024  # rows of (C,) probabilities at a time: they stay in cache for three passes
# Classes in which no p_i of a block has more than this share of threshold / L are left out of its
# products: as a p_j sums to at most L, they would add at most this share of the threshold, which
# `rounding_margin` holds room for. Of confident probabilities nine in ten classes are.
NEGLIGIBLE = 2.0**-22
SMALL_BLOCK = 48  # rows: a block ends early at a change of classes once it has as many


class Peaks(NamedTuple):
    """Entries of probs (N, C) above a floor, in the order of the rows."""

    row: Tensor  # (E,) int64
    column: Tensor  # (E,) int64 class
    value: Tensor  # (E,) float32
    largest_sum: float  # L


class ClassLists(NamedTuple):
    """The peaks of the target rows by class, and by position in an order of the rows."""

    key: Tensor  # (E,) class * M + position, ascending
    position: Tensor  # (E,)
    value: Tensor  # (E,)
    ends: Tensor  # (C,) where each class's list ends
    rows: int  # M

    @classmethod
    def of(cls, key: Tensor, value: Tensor, classes: int, rows: int) -> "ClassLists":
        """Of the keys, ascending, and the value of each."""
        ends = torch.searchsorted(key, torch.arange(1, classes + 1, device=key.device) * rows)
        return cls(key, key % rows, value, ends, rows)


def choose_floor(*sides: Tensor, threshold: float) -> float:
    """The lowest of FLOORS with few peaks above it in a sample of each side's probs (N, C).

    Infinity, above which there are none, where even the highest has too many: the lists would cost
    more than they save.
    """
    samples = [_sample(probs) for probs in sides]
    for share, few in FLOORS.items():
        if threshold > 0 and all((sample > threshold * share).sum() <= few * len(sample)
                                 for sample in samples):
            return threshold * share
    return math.inf


def find_peaks(probs: Tensor, floor: float) -> Peaks | None:
    """The entries of probs (N, C) above the floor; None if one is below 0 or not finite."""
    device, largest, count = probs.device, 0.0, 0
    sample = _sample(probs)
    expected = int((sample > floor).sum()) * len(probs) // len(sample)
    # Room is made beforehand: pieces kept between the temporaries of each block would let the C
    # library's heap grow. Memory that is not written to costs nothing.
    room = expected + expected // 8 + probs.shape[1]
    rows, columns = torch.empty(2, room, dtype=torch.int64, device=device)
    values = torch.empty(room, device=device)
    for block in row_slices(len(probs), SCAN_ROWS):
        p = probs[block].float()
        total = p.sum(1)
        if not (p.amin() >= 0 and total.isfinite().all()):
            return None
        row, column = (p > floor).nonzero(as_tuple=True)
        end = count + len(row)
        if end > len(values):
            rows, columns, values = (_longer(kept, count, end) for kept in (rows, columns, values))
        torch.add(row, block.start, out=rows[count:end])
        columns[count:end] = column
        values[count:end] = p[row, column]
        largest, count = max(largest, float(total.amax())), end
    return Peaks(rows[:count], columns[:count], values[:count], largest)


def _longer(kept: Tensor, count: int, needed: int) -> Tensor:
    """The first `count` entries, with room for half as many again as are needed."""
    longer = kept.new_empty(needed + needed // 2)
    longer[:count] = kept[:count]
    return longer


def _sample(probs: Tensor) -> Tensor:
    """About SAMPLE_ROWS of the rows, in even steps."""
    return probs[::max(1, len(probs) // SAMPLE_ROWS)].float()


def rounding_margin(dim: int, classes: int) -> float:
    """How far a float32 product of cosine and p . p may fall short of the true one, relative.

    The worst case over any order of summation, half a unit in the last place for each operation:
    D for f_i . f_j, D / 2 for each of the two norms, C for p_i . p_j in either of the numbers that
    are compared, and 16 for what is left.
    """
    return 2 * (dim + classes + 8) * 2.0**-24


def order_rows(peaks: Peaks, n: int, classes: int, *, threshold: float, largest_block: int
               ) -> tuple[Tensor, list[slice]]:
    """An order of the n rows in which alike rows are neighbours, and the blocks to cut it into.

    A row is mixed if its second probability exceeds the threshold: without that it can have an edge
    with rows that have a peak at its first class only, all rows of which are alike. So the pure
    rows come first, by class, and meet every mixed row that concerns them; then the mixed rows, by
    first and second class, which are left with each other. Within a class by confidence. Rows
    without a peak come last and in no block: no edge is theirs.
    """
    best, first = _largest(peaks.row, peaks.column, peaks.value, n)
    others = peaks.column != first[peaks.row]
    second_value, second = _largest(peaks.row[others], peaks.column[others], peaks.value[others], n)
    mixed = second_value > threshold
    group = torch.where(mixed, (classes + first) * classes + second, first * classes)
    group[first < 0] = 2 * classes * classes
    order = best.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    live = int((best > 0).sum())
    group = group[order[:live]]
    changes = (group[1:] != group[:-1]).nonzero()[:, 0] + 1
    return order, _cut(changes.tolist(), live, largest_block)


def class_lists(peaks: Peaks, order: Tensor | None, n: int, classes: int) -> ClassLists:
    """The lists of the n rows in an order (None: as they lie), each sorted by position."""
    position = peaks.row if order is None else _positions(order, n)[peaks.row]
    key, at = (peaks.column * n + position).sort()
    return ClassLists.of(key, peaks.value[at], classes, n)


def listed_only(lists: ClassLists, at: Tensor) -> ClassLists:
    """The lists of the rows at these positions (K,), ascending, which then count from 0."""
    position = _positions(at, lists.rows)[lists.position]
    listed = position >= 0
    key = (lists.key // lists.rows * len(at) + position)[listed]
    return ClassLists.of(key, lists.value[listed], len(lists.ends), len(at))


def high_peaks(peaks: Peaks, order: Tensor, blocks: list[slice], *, threshold: float
               ) -> tuple[Tensor, Tensor]:
    """The block and the class of each peak above the threshold."""
    high = peaks.value > threshold
    position = _positions(order, len(order))[peaks.row[high]]
    stops = torch.tensor([block.stop for block in blocks], device=order.device)
    return torch.searchsorted(stops, position, right=True), peaks.column[high]


def pairs_of_blocks(lists: ClassLists, high: tuple[Tensor, Tensor], blocks: list[slice], *,
                    symmetric: bool) -> list[int]:
    """For each block about how many pairs it compares: those with a peak above the threshold."""
    block, column = high
    starts = torch.tensor([block.start for block in blocks], device=block.device)
    first = starts[block] if symmetric else torch.zeros_like(block)
    pairs = lists.ends[column] - torch.searchsorted(lists.key, column * lists.rows + first)
    costs = torch.zeros(len(blocks), dtype=torch.int64, device=block.device)
    return costs.index_add_(0, block, pairs).tolist()


def candidates(lists: ClassLists, block_max: Tensor, start: int, *, floor: float, needed: float,
               scratch: Tensor) -> Tensor:
    """Ascending positions from `start` on that may have p_i . p_j > needed with a row of the block.

    block_max (C,) is m of the module's text; `scratch` (M,) float32 zeros, left as zeros.
    """
    classes = (block_max > floor).nonzero()[:, 0]
    begins = torch.searchsorted(lists.key, classes * lists.rows + start)
    counts = lists.ends[classes] - begins
    skipped = begins - (counts.cumsum(0) - counts)  # between the piece in the lists and in `at`
    at = torch.arange(int(counts.sum()), device=begins.device) + skipped.repeat_interleave(counts)
    position = lists.position.index_select(0, at)
    shares = lists.value.index_select(0, at) * block_max[classes].repeat_interleave(counts)
    scratch.index_add_(0, position, shares)
    passed = position[scratch.index_select(0, position) > needed]
    scratch.index_fill_(0, position, 0)
    return passed.unique()


def _positions(order: Tensor, n: int) -> Tensor:
    """(n,) where each row is in the order; -1 for one that it leaves out."""
    position = torch.full((n,), -1, device=order.device)
    position[order] = torch.arange(len(order), device=order.device)
    return position


def _largest(row: Tensor, column: Tensor, value: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Value and column of the largest entry of each of n rows; 0 and -1 where a row has none."""
    best = value.new_zeros(n).scatter_reduce_(0, row, value, "amax")
    is_best = value == best[row]
    at = torch.full((n,), -1, device=value.device)
    # Of equal entries the last: the order of the rows must not hang on threads or device.
    return best, at.scatter_reduce_(0, row[is_best], column[is_best], "amax")


def _cut(changes: list[int], n: int, largest: int) -> list[slice]:
    """Slices of range(n): at most `largest` rows, ending early at a change of classes."""
    blocks, start = [], 0
    for end in [*changes, n]:
        while end - start > largest:
            blocks.append(slice(start, start + largest))
            start += largest
        if end - start >= SMALL_BLOCK or (end == n and end > start):
            blocks.append(slice(start, end))
            start = end
    return blocks
