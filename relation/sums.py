"""Relation sums, block by block of alike rows: only pairs that may hold an edge are visited.

A block of source rows meets its candidates (`pruning.py`) tile by tile (`blocks.py`). Where a set
is related to itself r is symmetric: a block meets only what does not come before it, and adds to
both sides. Of relations to a subset alone (refinement) only pairs with one of its rows are visited.
The blocks are always the larger side's, whose rows are then read once each: the smaller one has too
few alike rows to fill a block, and would meet the rows of many classes block by block. Where
nothing can be pruned (the kernel `cos`, flat probabilities) every row is a candidate, and symmetry
and tiles that stay in cache are what is gained over the plain loop.

Blocks are computed by as many threads as torch has, and added in their order: the result is the
same, bit for bit, for any number of threads, and after an interruption. Held in memory: the peaks
(a few numbers for each row), one float64 sum for each row, and for each thread a tile's rows in
float32. Features and probabilities are only read, and may be memory-mapped.
"""

import hashlib
from functools import partial
from operator import is_not
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from relation import pruning
from relation.blocks import Buffers, Side, Work, block_sums, inverse_norms, numbered
from relation.kernel import Rows
from relation.parallel import ProcessLost, add_up, agree, in_order, my_share
from relation.tiles import row_slices, wide_zeros

LARGEST_BLOCK = 1024  # rows


class Checkpoint(Protocol):
    """Saves the sums of a long run, so that it can resume after a kill."""

    def load(self, division: str) -> tuple[int, Tensor] | None:
        """What was last kept of a run on the same data and settings, in the same division."""

    def offer(self, done: int, sums: Tensor) -> None:
        """The sums after so many blocks, to be kept as often as is worth it."""


class Method(NamedTuple):
    """The options of `relation_scores` by these names."""

    kernel: str
    temperature: float
    threshold: float
    chunk: int


class Prepared:
    """What the sums over one set have in common: kept from the first call that is given it to the
    next ones on the same tensors, which read neither all features nor all probabilities again.

    Held are the peaks, the order and the norms: some 150 bytes for each row. The tensors must not
    change in between.
    """

    def __init__(self) -> None:
        self._tensors: tuple[Tensor | None, ...] = ()
        self._method: Method | None = None
        self._work: Work | None = None

    def work(self, source: Rows, target: Rows, method: Method) -> Work | None:
        """Every pair of source and target that may hold an edge; None as of `pruned_sums`."""
        tensors = (*source, *target)
        if method != self._method or any(map(is_not, tensors, self._tensors)):
            self._work = _prepare(source, target, method)
            self._tensors, self._method = tensors, method
        return self._work


def pruned_sums(source: Rows, target: Rows, target_rows: Tensor | None, method: Method, *,
                prepared: Prepared, progress: bool, checkpoint: Checkpoint | None = None
                ) -> Tensor | None:
    """The sums (N,) float64 of `relation_scores`; None where that takes the plain loop.

    That is so for features of norms beyond SAFE_NORMS, and for probs below 0 or not finite. Raises
    ProcessLost where another process is gone, or orders the rows in another way.
    """
    if target_rows is not None and source is not target:
        target, target_rows = target.take(target_rows), None
    work = prepared.work(source, target, method)
    if work is None:
        return None
    if target_rows is not None:
        work = _of_rows(work, target_rows)
    costs = _costs(work)
    device, division = source.features.device, _division(work, costs)
    if not agree(division, device):
        raise ProcessLost("the processes of this run order the rows differently: expected the same "
                          "versions and kind of device for all")
    blocks = [work.blocks[piece] for piece in my_share(costs)]
    found = None if checkpoint is None else checkpoint.load(division)
    summed = work.target if work.only_others else work.source
    done, sums = found or (0, wide_zeros(len(summed.inverse_norm), device))
    sums = sums.to(device)
    compute = partial(block_sums, work, buffers=Buffers())
    rows = [block.stop - block.start for block in blocks]
    with tqdm(total=sum(rows), initial=sum(rows[:done]), desc="relation", unit=" rows",
              unit_scale=True, delay=1, disable=not progress) as bar:
        for own, others in in_order(compute, blocks[done:], device):
            if not work.only_others:
                sums[blocks[done]] += own
            for columns, added in others:
                sums[columns] += added
            bar.update(rows[done])
            done += 1
            if checkpoint is not None:
                checkpoint.offer(done, sums)
    add_up(sums)
    if summed.order is None:
        return sums
    return torch.empty_like(sums).index_copy_(0, summed.order, sums)


def _prepare(source: Rows, target: Rows, method: Method) -> Work | None:
    kernel, temperature, threshold, chunk = method
    symmetric = source is target
    only_others = len(target.features) > len(source.features)
    if only_others:  # r is symmetric: the larger side's rows make the blocks
        source, target = target, source
    source_norm = inverse_norms(source.features)
    target_norm = source_norm if symmetric else inverse_norms(target.features)
    if source_norm is None or target_norm is None:
        return None
    n, chunk = len(source.features), min(chunk, LARGEST_BLOCK)
    order, blocks, lists, high = None, list(row_slices(n, chunk)), None, None
    floor = needed = least_pp = least_p = 0.0
    if kernel == "cos":
        source, target = source._replace(probs=None), target._replace(probs=None)
    else:
        floor = pruning.choose_floor(source.probs, target.probs, threshold=threshold)
        peaks = pruning.find_peaks(source.probs, floor)
        other = peaks if symmetric or peaks is None else pruning.find_peaks(target.probs, floor)
        if peaks is None or other is None:
            return None
        dim, classes = source.features.shape[1], source.probs.shape[1]
        least_pp = threshold * (1 - pruning.rounding_margin(dim, classes))
        least_p = threshold * pruning.NEGLIGIBLE / max(other.largest_sum, threshold)
        needed = least_pp - 2 * floor * max(peaks.largest_sum, other.largest_sum)
        if needed > 0:  # else rows without a shared peak, which are in no list, could hold an edge
            # Half a class's rows: smaller blocks are more alike, larger ones share what they gather
            largest = min(chunk, max(64, n // (2 * classes)))
            order, blocks = pruning.order_rows(peaks, n, classes, threshold=threshold,
                                               largest_block=largest)
            lists = pruning.class_lists(other, order if symmetric else None,
                                        len(target.features), classes)
            high = pruning.high_peaks(peaks, order, blocks, threshold=threshold)
    labels = numbered(source.labels, target.labels)
    return Work(_side(source, order, source_norm, labels[0]),
                _side(target, order if symmetric else None, target_norm, labels[1]),
                symmetric, only_others, blocks, high, lists, floor, needed, least_pp, least_p,
                temperature, threshold)


def _of_rows(work: Work, rows: Tensor) -> Work:
    """What all rows of the set have with these alone: the few are the target."""
    target = work.target
    chosen = torch.zeros(len(target.inverse_norm), dtype=torch.bool, device=rows.device)
    chosen[rows] = True
    at = (chosen if target.order is None else chosen[target.order]).nonzero()[:, 0]
    few = Side(target.rows, at if target.order is None else target.order[at],
               target.inverse_norm[at], None if target.label is None else target.label[at])
    lists = None if work.lists is None else pruning.listed_only(work.lists, at)
    return work._replace(target=few, symmetric=False, lists=lists)


def _costs(work: Work) -> list[int]:
    """About how many pairs each block compares."""
    if work.high is not None:
        return pruning.pairs_of_blocks(work.lists, work.high, work.blocks,
                                       symmetric=work.symmetric)
    m = len(work.target.inverse_norm)
    return [(rows.stop - rows.start) * (m - rows.start * work.symmetric) for rows in work.blocks]


def _division(work: Work, costs: list[int]) -> str:
    """A digest of what each block is: sums by position add up, and resume, only where it is the
    same."""
    digest = hashlib.sha256(f"{work.blocks} {costs}".encode())
    for side in (work.source, work.target):
        if side.order is not None:
            digest.update(side.order.cpu().numpy().tobytes())
    return digest.hexdigest()


def _side(rows: Rows, order: Tensor | None, inverse_norm: Tensor, label: Tensor | None) -> Side:
    if order is None:
        return Side(rows, None, inverse_norm, label)
    return Side(rows, order, inverse_norm[order], None if label is None else label[order])
