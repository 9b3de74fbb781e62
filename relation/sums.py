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

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from relation import pruning
from relation.blocks import Buffers, Side, Work, block_sums
from relation.kernel import Rows
from relation.tiles import row_slices, wide_zeros

LARGEST_BLOCK = 1024  # rows
SAFE_NORMS = (1e-15, 1e15)  # products of features between these stay within float32
NORM_ROWS = 2048  # at a time


def pruned_sums(source: Rows, target: Rows, *, kernel: str, temperature: float, threshold: float,
                chunk: int, progress: bool) -> Tensor | None:
    """The sums (N,) float64 of `relation_scores`; None where that takes the plain loop.

    That is so for features of norms beyond SAFE_NORMS, and for probs below 0 or not finite.
    """
    work = _prepare(source, target, kernel, temperature, threshold, chunk)
    if work is None:
        return None
    sums = wide_zeros(len(source.features), source.features.device)
    compute = partial(block_sums, work, buffers=Buffers())
    with tqdm(total=len(sums), desc="relation", unit=" rows", unit_scale=True, delay=1,
              disable=not progress) as bar:
        for block, (own, others) in zip(work.blocks, _in_order(compute, work.blocks, sums.device)):
            sums[block] += own
            for columns, added in others:
                sums[columns] += added
            bar.update(block.stop - block.start)
    if work.source.order is None:
        return sums
    return torch.empty_like(sums).index_copy_(0, work.source.order, sums)


def _prepare(source: Rows, target: Rows, kernel: str, temperature: float, threshold: float,
             chunk: int) -> Work | None:
    symmetric = source is target
    source_norm = _inverse_norms(source.features)
    target_norm = source_norm if symmetric else _inverse_norms(target.features)
    if source_norm is None or target_norm is None:
        return None
    n, chunk = len(source.features), min(chunk, LARGEST_BLOCK)
    order, blocks, lists, floor, needed, least = None, list(row_slices(n, chunk)), None, 0, 0, 0
    if kernel == "cos":
        source, target = source._replace(probs=None), target._replace(probs=None)
    else:
        floor = pruning.choose_floor(source.probs, target.probs, threshold=threshold)
        peaks = pruning.find_peaks(source.probs, floor)
        other = peaks if symmetric or peaks is None else pruning.find_peaks(target.probs, floor)
        if peaks is None or other is None:
            return None
        dim, classes = source.features.shape[1], source.probs.shape[1]
        least = threshold * (1 - pruning.rounding_margin(dim, classes))
        needed = least - 2 * floor * max(peaks.largest_sum, other.largest_sum)
        if needed > 0:  # else rows without a shared peak, which are in no list, could hold an edge
            # Half a class's rows: smaller blocks are more alike, larger ones share what they gather
            largest = min(chunk, max(64, n // (2 * classes)))
            order, blocks = pruning.order_rows(peaks, n, classes, threshold=threshold,
                                               largest_block=largest)
            lists = pruning.class_lists(other, order if symmetric else None, len(target.features),
                                        classes)
    labels = _numbered(source.labels, target.labels)
    return Work(_side(source, order, source_norm, labels[0]),
                _side(target, order if symmetric else None, target_norm, labels[1]),
                symmetric, blocks, lists, floor, needed, least, temperature, threshold)


def _side(rows: Rows, order: Tensor | None, inverse_norm: Tensor, label: Tensor | None) -> Side:
    if order is None:
        return Side(rows, None, inverse_norm, label)
    return Side(rows, order, inverse_norm[order], None if label is None else label[order])


def _numbered(source: Tensor | None, target: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The labels numbered from 0, in float32, which holds such numbers exactly."""
    if source is None:
        return None, None
    numbers = torch.cat([source, target]).unique(return_inverse=True)[1].float()
    return numbers[:len(source)], numbers[len(source):]


def _inverse_norms(features: Tensor) -> Tensor | None:
    """1 / |f| (N,) float32, 0 for a zero row; None where one is beyond SAFE_NORMS."""
    norms = torch.cat([features[rows].float().norm(dim=1)
                       for rows in row_slices(len(features), NORM_ROWS)])
    zero = norms == 0
    if zero.any() and features[zero].any():  # a row of tiny entries has norm 0, too
        return None
    if not ((norms > SAFE_NORMS[0]) & (norms < SAFE_NORMS[1]) | zero).all():
        return None
    return torch.where(zero, 0, 1 / norms)


def _in_order(compute: Callable[[slice], Any], blocks: list[slice], device: torch.device
              ) -> Iterator[Any]:
    """compute(block) for each block in order, on the CPU by as many threads as torch has."""
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from map(compute, blocks)
        return
    # Blocks are too small to share: one thread for each kernel. Torch lets go of the interpreter
    # within kernels, so that Python's threads do run side by side.
    with _torch_threads(1), ThreadPoolExecutor(workers, initializer=torch.set_num_threads,
                                               initargs=(1,)) as pool:
        yield from pool.map(compute, blocks)  # cancels what is left when it is closed


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
