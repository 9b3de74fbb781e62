"""Relation sums, block by block of alike rows: only pairs that may hold an edge are visited.

A block of source rows meets its candidates (`pruning.py`) tile by tile: first the products of the
probabilities, and where none of a column can be an edge, its features are not even read. Where a
set is related to itself r is symmetric: a block meets only what does not come before it, and adds
to both sides. The kernel `cos` has nothing to prune by: every row is a candidate, and symmetry and
tiles that stay in cache are what is gained over the plain loop.

Held in memory: the peaks (a few numbers for each row), one float64 sum for each row and worker,
and a tile's rows in float32. Features and probabilities are only read, and may be memory-mapped.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from relation import pruning
from relation.kernel import Rows
from relation.tiles import row_slices, wide_zeros

LARGEST_BLOCK = 1024  # rows
TILE_COLUMNS = 2048  # rows of the target at a time: 16 MiB of features and probabilities
SAFE_NORMS = (1e-15, 1e15)  # products of features between these stay within float32


class _Side(NamedTuple):
    """Rows in an order, with what is needed of each."""

    rows: Rows
    order: Tensor  # (N,) position -> row
    inverse_norm: Tensor  # (N,) float32 by position; 0 for a zero feature
    labels: Tensor | None  # by position


class _Work(NamedTuple):
    source: _Side
    target: _Side
    symmetric: bool
    blocks: list[slice]  # of source positions
    lists: pruning.ClassLists | None  # None: every target row is a candidate
    floor: float
    needed: float  # least sum over shared peaks of an edge
    least: float  # least p_i . p_j of an edge
    temperature: float
    threshold: float


def pruned_sums(source: Rows, target: Rows, *, kernel: str, temperature: float, threshold: float,
                chunk: int, progress: bool) -> Tensor | None:
    """The sums (N,) float64 of `relation_scores`; None where that takes the plain loop.

    That is so for features of norms beyond SAFE_NORMS; and with the kernel `cos_p` for a threshold
    that is 0 or too small to prune by, and for probs that are below 0, not finite or of large sums.
    """
    work = _prepare(source, target, kernel, temperature, threshold, chunk)
    if work is None:
        return None
    device = source.features.device
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    total = wide_zeros(len(source.features), device)
    with tqdm(total=len(source.features), desc="relation", unit=" rows", unit_scale=True, delay=1,
              disable=not progress) as bar, _one_thread_each(workers):
        lock = threading.Lock()
        blocks = iter(work.blocks)

        @torch.no_grad()  # of each thread's own
        def run() -> Tensor:
            sums = wide_zeros(len(work.target.order) if work.symmetric else len(total), device)
            scratch = torch.zeros(len(work.target.order), device=device)
            while True:
                with lock:
                    block = next(blocks, None)
                    if block is None:
                        return sums
                    bar.update(block.stop - block.start)
                _add_block(work, block, sums, scratch)

        try:
            for sums in _in_threads(run, workers):
                total[work.source.order] += sums
        finally:  # after an error or Ctrl-C `run` finds no blocks left in the other workers
            blocks = iter(())
    return total


def _prepare(source: Rows, target: Rows, kernel: str, temperature: float, threshold: float,
             chunk: int) -> _Work | None:
    symmetric = source is target
    n, dim = source.features.shape
    if threshold == 0 and kernel == "cos_p":
        return None
    source_norm = _inverse_norms(source.features)
    target_norm = source_norm if symmetric else _inverse_norms(target.features)
    if source_norm is None or target_norm is None:
        return None
    block = min(chunk, LARGEST_BLOCK)
    lists, floor, needed, least = None, 0.0, 0.0, 0.0
    if kernel == "cos":
        source, target = source._replace(probs=None), target._replace(probs=None)
        order = torch.arange(n, device=source.features.device)
        blocks = list(row_slices(n, block))
    else:
        classes = source.probs.shape[1]
        floor = pruning.choose_floor(source.probs, target.probs, threshold=threshold)
        peaks = None if floor is None else pruning.find_peaks(source.probs, floor)
        other = peaks if symmetric or peaks is None else pruning.find_peaks(target.probs, floor)
        if peaks is None or other is None:
            return None
        # Half a class's rows: smaller blocks are more alike, larger ones share what they gather.
        order, blocks = pruning.order_rows(peaks, n, classes,
                                           min(block, max(64, n // (2 * classes))))
        least = threshold * (1 - pruning.rounding_margin(dim, classes))
        needed = least - 2 * floor * max(peaks.largest_sum, other.largest_sum)
        if not needed > 0:  # rows without a shared peak, which are in no list, could hold an edge
            return None
    target_order = order if symmetric else torch.arange(len(target.features), device=order.device)
    if kernel == "cos_p":
        lists = pruning.class_lists(other, target_order, classes)
    return _Work(_side(source, order, source_norm), _side(target, target_order, target_norm),
                 symmetric, blocks, lists, floor, needed, least, temperature, threshold)


def _side(rows: Rows, order: Tensor, inverse_norm: Tensor) -> _Side:
    return _Side(rows, order, inverse_norm[order],
                 None if rows.labels is None else rows.labels[order])


def _inverse_norms(features: Tensor) -> Tensor | None:
    """1 / |f| (N,) float32, 0 for a zero row; None where one is beyond SAFE_NORMS."""
    norms = torch.cat([features[rows].float().norm(dim=1)
                       for rows in row_slices(len(features), TILE_COLUMNS)])
    zero = norms == 0
    if zero.any() and features[zero].any():  # a row of tiny entries has norm 0, too
        return None
    if not ((norms > SAFE_NORMS[0]) & (norms < SAFE_NORMS[1]) | zero).all():
        return None
    return torch.where(zero, 0, 1 / norms)


def _add_block(work: _Work, block: slice, sums: Tensor, scratch: Tensor) -> None:
    """Add every edge between the block and its candidates to the sums (by position)."""
    source = _gathered(work.source, work.source.order[block])
    start = block.start if work.symmetric else 0
    if work.lists is None:
        found = torch.arange(start, len(work.target.order), device=sums.device)
    else:
        found = pruning.candidates(work.lists, source.probs.amax(0), start, floor=work.floor,
                                   needed=work.needed, scratch=scratch)
    for columns in found.split(TILE_COLUMNS):
        if source.probs is not None:
            pp = source.probs @ work.target.rows.probs[work.target.order[columns]].float().T
            kept = (pp > work.least).any(0)
            columns, pp = columns[kept], pp[:, kept]
            if len(columns) == 0:
                continue
        features = work.target.rows.features[work.target.order[columns]].float()
        r = (source.features @ features.T).clamp_(min=0)
        r *= work.source.inverse_norm[block, None]
        r *= work.target.inverse_norm[columns]
        if source.probs is not None:
            r *= pp
        edges = torch.where(r > work.threshold, power(r, work.temperature), 0.0)
        if work.source.labels is not None:
            same = work.source.labels[block, None] == work.target.labels[columns]
            edges = torch.where(same, edges, -edges)
        sums[block] += edges.sum(1)
        if work.symmetric:
            after = int(torch.searchsorted(columns, block.stop))
            sums[columns[after:]] += edges[:, after:].sum(0)


def _gathered(side: _Side, rows: Tensor) -> Rows:
    features, probs, _ = side.rows.take(rows)
    return Rows(features.float(), None if probs is None else probs.float(), None)


def power(r: Tensor, temperature: float) -> Tensor:
    """r^temperature by squaring where it is a small whole number: pow costs ten times as much."""
    if temperature not in (1, 2, 3, 4, 6, 8):
        return r.pow(temperature)
    result, square, bits = None, r, int(temperature)
    while bits:
        if bits & 1:
            result = square if result is None else result * square
        bits >>= 1
        if bits:
            square = square * square
    return result


def _in_threads(run: Callable[[], Tensor], workers: int) -> Iterator[Tensor]:
    """What each of `workers` threads returns; torch lets go of the interpreter in its kernels."""
    if workers == 1:
        yield run()
        return
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for future in as_completed([pool.submit(run) for _ in range(workers)]):
            yield future.result()
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _one_thread_each(workers: int) -> Iterator[None]:
    """One thread for each kernel while there are several workers: blocks are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if workers > 1 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
