"""Relation sums, block by block of alike rows: only pairs that may hold an edge are visited.

A block of source rows meets its candidates (`pruning.py`) tile by tile (`blocks.py`). Where a set
is related to itself r is symmetric: a block meets only what does not come before it, and adds to
both sides. Where nothing can be pruned (the kernel `cos`, flat probabilities) every row is a
candidate, and symmetry and tiles that stay in cache are what is gained over the plain loop.

Blocks are computed by as many threads as torch has, and added in their order: the result is the
same, bit for bit, for any number of threads, and after an interruption. Held in memory: the peaks
(a few numbers for each row), one float64 sum for each row, and for each thread a tile's rows in
float32. Features and probabilities are only read, and may be memory-mapped.
"""

import hashlib
from functools import partial
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


def pruned_sums(source: Rows, target: Rows, target_rows: Tensor | None, method: Method, *,
                progress: bool, checkpoint: Checkpoint | None = None) -> Tensor | None:
    """The sums (N,) float64 of `relation_scores`; None where that takes the plain loop.

    That is so for features of norms beyond SAFE_NORMS, and for probs below 0 or not finite. Raises
    ProcessLost where another process is gone, or orders the rows in another way.
    """
    work = _prepare(source, target, target_rows, method)
    if work is None:
        return None
    device, division = source.features.device, _division(work)
    if not agree(division, device):
        raise ProcessLost("the processes of this run order the rows differently: expected the same "
                          "versions and kind of device for all")
    blocks = [work.blocks[piece] for piece in my_share(work.costs)]
    found = None if checkpoint is None else checkpoint.load(division)
    done, sums = found or (0, wide_zeros(len(source.features), device))
    sums = sums.to(device)
    compute = partial(block_sums, work, buffers=Buffers())
    rows = [block.stop - block.start for block in blocks]
    with tqdm(total=sum(rows), initial=sum(rows[:done]), desc="relation", unit=" rows",
              unit_scale=True, delay=1, disable=not progress) as bar:
        for own, others in in_order(compute, blocks[done:], device):
            sums[blocks[done]] += own
            for columns, added in others:
                sums[columns] += added
            bar.update(rows[done])
            done += 1
            if checkpoint is not None:
                checkpoint.offer(done, sums)
    add_up(sums)
    if work.source.order is None:
        return sums
    return torch.empty_like(sums).index_copy_(0, work.source.order, sums)


def _prepare(source: Rows, target: Rows, target_rows: Tensor | None, method: Method
             ) -> Work | None:
    kernel, temperature, threshold, chunk = method
    same_set = source is target
    symmetric = same_set and target_rows is None
    source_norm = inverse_norms(source.features)
    target_norm = source_norm if same_set else inverse_norms(target.features)
    if source_norm is None or target_norm is None:
        return None
    n, chunk = len(source.features), min(chunk, LARGEST_BLOCK)
    order, blocks, lists = None, list(row_slices(n, chunk)), None
    floor = needed = least_pp = 0.0
    m = len(target.features) if target_rows is None else len(target_rows)
    costs = [(rows.stop - rows.start) * (m - rows.start * symmetric) for rows in blocks]
    if kernel == "cos":
        source, target = source._replace(probs=None), target._replace(probs=None)
    else:
        floor = pruning.choose_floor(source.probs, target.probs, threshold=threshold)
        peaks = pruning.find_peaks(source.probs, floor)
        other = peaks if same_set or peaks is None else pruning.find_peaks(target.probs, floor)
        if peaks is None or other is None:
            return None
        dim, classes = source.features.shape[1], source.probs.shape[1]
        least_pp = threshold * (1 - pruning.rounding_margin(dim, classes))
        needed = least_pp - 2 * floor * max(peaks.largest_sum, other.largest_sum)
        if needed > 0:  # else rows without a shared peak, which are in no list, could hold an edge
            # Half a class's rows: smaller blocks are more alike, larger ones share what they gather
            largest = min(chunk, max(64, n // (2 * classes)))
            order, blocks = pruning.order_rows(peaks, n, classes, threshold=threshold,
                                               largest_block=largest)
            target_rows = order if symmetric else target_rows
            lists = pruning.class_lists(other, target_rows, len(target.features), classes)
            costs = pruning.pairs_of_blocks(lists, peaks, order, blocks, symmetric=symmetric,
                                            threshold=threshold)
    labels = numbered(source.labels, target.labels)
    return Work(_side(source, order, source_norm, labels[0]),
                _side(target, target_rows, target_norm, labels[1]),
                symmetric, blocks, costs, lists, floor, needed, least_pp, temperature, threshold)


def _division(work: Work) -> str:
    """A digest of what each block is: sums by position add up, and resume, only where it is the
    same."""
    digest = hashlib.sha256(f"{work.blocks} {work.costs}".encode())
    if work.source.order is not None:
        digest.update(work.source.order.cpu().numpy().tobytes())
    return digest.hexdigest()


def _side(rows: Rows, order: Tensor | None, inverse_norm: Tensor, label: Tensor | None) -> Side:
    if order is None:
        return Side(rows, None, inverse_norm, label)
    return Side(rows, order, inverse_norm[order], None if label is None else label[order])
