"""Several threads, and several processes: who computes which piece, and how the sums meet.

Within a process pieces are computed by as many threads as torch has and come out in their order.
Processes are those of torch.distributed, if it was initialised (torchrun): every one of them calls
the same functions with the same data, computes its share of the pieces, and gets the whole result.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, distributed

AHEAD = 4  # batches for each thread: enough that none waits for a piece that takes long
LARGEST_BATCH = 16  # pieces

_unshared = False  # whether this process shares nothing now, in any of its threads


class ProcessLost(RuntimeError):
    """Another process of the run ended, did not answer in time, or cannot work with this one."""


def in_order(compute: Callable[[Any], Any], pieces: Sequence[Any], device: torch.device, *,
             largest_batch: int = LARGEST_BATCH) -> Iterator[Any]:
    """compute(piece) for each piece, in order; on the CPU by as many threads as torch has.

    At most AHEAD batches for each thread are computed ahead, so that results do not pile up when
    the consumer is slow; of pieces with large results let a batch be one.
    """
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from map(compute, pieces)
        return
    # Pieces are too small to share: one thread for each kernel. Torch releases the interpreter
    # lock within kernels, so that Python's threads do run in parallel.
    # A few pieces at a time where there are thousands: each submission costs context switches.
    batch = max(1, min(largest_batch, len(pieces) // (32 * workers)))
    with _torch_threads(1), ThreadPoolExecutor(workers, initializer=torch.set_num_threads,
                                               initargs=(1,)) as pool:
        batches = (pieces[start:start + batch] for start in range(0, len(pieces), batch))
        handed_over = deque(pool.submit(_all_of, compute, batch)
                            for batch in islice(batches, AHEAD * workers))
        try:
            while handed_over:
                results = handed_over.popleft().result()
                handed_over.extend(pool.submit(_all_of, compute, batch)
                                   for batch in islice(batches, 1))
                yield from results
        finally:
            for waiting in handed_over:
                waiting.cancel()


def _all_of(compute: Callable[[Any], Any], batch: Sequence[Any]) -> list[Any]:
    return [compute(piece) for piece in batch]


@contextmanager
def unshared() -> Iterator[None]:
    """While the block runs this process counts as the only one: others need not take part."""
    global _unshared
    before, _unshared = _unshared, True
    try:
        yield
    finally:
        _unshared = before


def rank_and_count() -> tuple[int, int]:
    """Which of how many processes this is: (0, 1) without torch.distributed, or by itself."""
    if _unshared or not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def my_share(costs: Sequence[int]) -> list[int]:
    """Which pieces are this process's, ascending, so that all have about the same cost.

    Largest first, to the least loaded process. All processes find the same division.
    """
    rank, count = rank_and_count()
    if count == 1:
        return list(range(len(costs)))
    loads, mine = [(0, process) for process in range(count)], []
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        load, process = heapq.heappop(loads)
        heapq.heappush(loads, (load + costs[piece], process))
        if process == rank:
            mine.append(piece)
    return sorted(mine)


def add_up(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over the processes. Raises ProcessLost if one is gone."""
    for tensor in tensors:
        _reduce(tensor, "SUM")


def from_first(tensor: Tensor) -> Tensor:
    """The first process's values, in every process. Raises ProcessLost if one is gone."""
    rank, count = rank_and_count()
    if count == 1:
        return tensor
    shared = tensor.long() * (rank == 0)
    add_up(shared)
    return shared.to(tensor.dtype)


def agree(digest: str, device: torch.device) -> bool:
    """Whether all processes have this hexadecimal digest. Raises ProcessLost if one is gone."""
    mine = torch.tensor(int(digest[:12], 16), device=device)
    total = mine.clone()
    add_up(total)
    return int(total) == rank_and_count()[1] * int(mine)


def smallest(value: int, device: torch.device) -> int:
    """The smallest of the processes' values. Raises ProcessLost if one is gone."""
    found = torch.tensor(value, device=device)
    _reduce(found, "MIN")
    return int(found)


def _reduce(tensor: Tensor, how: str) -> None:
    if rank_and_count()[1] == 1:
        return
    try:
        distributed.all_reduce(tensor, getattr(distributed.ReduceOp, how))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ProcessLost("another process of this run ended or did not answer "
                          f"({str(error).splitlines()[0]})") from error


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
