"""The edges between a block of source rows and its candidates, summed over both sides.

This is where the time goes, so: rows are gathered by `index_select` into arrays that each thread
keeps (new ones of megabytes cost more in page faults than in copying); tiles stay within a core's
cache; and the work on a tile is float arithmetic in place, since comparing to booleans and choosing
by them costs five times as much. N source rows, M target rows, D features, C classes.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold_  # type: ignore[attr-defined]  # torch's stubs lack it

from relation import pruning
from relation.kernel import Rows
from relation.tiles import row_slices, wide_zeros

TILE_COLUMNS = 1024  # target rows at a time: up to 8 MiB of features and probabilities
NORM_ROWS = 2048  # at a time
SAFE_NORMS = (1e-15, 1e15)  # products of features between these stay within float32
FEW_LEFT = 0.8  # of a tile's columns: below this share those without an edge are taken out

Positions = slice | Tensor  # of rows in a Side's order, ascending


class Side(NamedTuple):
    """Rows in an order, with what is needed of each."""

    rows: Rows
    order: Tensor | None  # (N,) position -> row; None: as they lie
    inverse_norm: Tensor  # (N,) float32 by position; 0 for a zero feature
    label: Tensor | None  # (N,) float32 by position: a number below 2^24 for each label


class Work(NamedTuple):
    """What the blocks are computed from; nothing in it changes."""

    source: Side
    target: Side
    symmetric: bool  # source is target: a block meets only what does not come before it
    only_others: bool  # the sums are those of the target's rows: the sides were exchanged
    blocks: list[slice]  # of source positions
    high: tuple[Tensor, Tensor] | None  # block and class of each source peak above the threshold
    lists: pruning.ClassLists | None  # None: every target row is a candidate
    floor: float
    needed: float  # least sum over shared peaks of an edge
    least_pp: float  # least p_i . p_j of an edge
    least_p: float  # where no row of a block has more in a class, the class adds nothing to any pp
    temperature: float
    threshold: float


class Buffers(threading.local):
    """Float32 arrays that the next tile of the same thread uses again."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def empty(self, name: str, *shape: int, device: torch.device) -> Tensor:
        """An array with anything in it, valid until `name` is asked for again."""
        size = torch.Size(shape).numel()
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept[name] = torch.empty(size, device=device)
        return self._kept[name][:size].view(shape)

    def zeros(self, name: str, size: int, *, device: torch.device) -> Tensor:
        """(size,) zeros, to be left as zeros; the same size whenever `name` is asked for."""
        if name not in self._kept:
            self._kept[name] = torch.zeros(size, device=device)
        return self._kept[name]


@torch.no_grad()  # of each thread's own
def block_sums(work: Work, block: slice, buffers: Buffers
               ) -> tuple[Tensor, list[tuple[Positions, Tensor]]]:
    """What the block adds to its own rows (B,), and to those of the target where they count."""
    device = work.source.inverse_norm.device
    features, probs = None, None if work.source.rows.probs is None else \
        _gather(work.source, "probs", block, buffers, "source")
    own, others = wide_zeros(block.stop - block.start, device), []
    highest = classes = None
    if work.lists is not None:
        highest = probs.amax(0)
        classes = (highest > work.least_p).nonzero()[:, 0]
        probs = probs.index_select(1, classes)
    for columns in _candidates(work, block, highest, buffers):
        pp = None
        if probs is not None:
            columns, pp = _likely(work, probs, classes, columns, buffers)
            if pp.shape[1] == 0:
                continue
        if features is None:  # few rows have an edge to a subset: those of other blocks stay unread
            features = _gather(work.source, "features", block, buffers, "source") \
                * work.source.inverse_norm[block, None]
        edges = _edges(work, features, pp, block, columns, buffers)
        own += edges.sum(1)
        if work.symmetric:
            columns, edges = _after(block.stop, columns, edges)
        if work.symmetric or work.only_others:
            others.append((columns, edges.sum(0)))
    return own, others


def _candidates(work: Work, block: slice, highest: Tensor | None, buffers: Buffers
                ) -> Iterator[Positions]:
    """Positions of the target, a tile at a time; `highest` (C,) of the block's probabilities."""
    start, end = block.start if work.symmetric else 0, len(work.target.inverse_norm)
    if work.lists is None:
        for columns in row_slices(end - start, TILE_COLUMNS):
            yield slice(columns.start + start, columns.stop + start)
        return
    scratch = buffers.zeros("candidates", end, device=highest.device)
    yield from pruning.candidates(work.lists, highest, start, floor=work.floor,
                                  needed=work.needed, scratch=scratch).split(TILE_COLUMNS)


def _likely(work: Work, probs: Tensor, classes: Tensor | None, columns: Positions,
            buffers: Buffers) -> tuple[Positions, Tensor]:
    """The columns and their p . p (B, K); without those that hold no edge where they are many."""
    pp = products(work.target, probs, columns, buffers, classes)
    if work.lists is not None:
        kept = pp.amax(0) > work.least_pp
        if int(kept.sum()) < FEW_LEFT * len(kept):
            return columns[kept], pp[:, kept]  # type: ignore[index]  # lists give rows, no slice
    return columns, pp


def _edges(work: Work, features: Tensor, pp: Tensor | None, block: slice, columns: Positions,
           buffers: Buffers) -> Tensor:
    """sign(r) |r|^t where |r| > threshold, else 0: (B, K), in a buffer."""
    r = cosines(work.target, features, columns, buffers)
    if pp is not None:
        r *= pp
    threshold_(r, work.threshold, 0.0)  # negative cosines end here, too
    _power(r, work.temperature, buffers.empty("spare", *r.shape, device=r.device))
    if work.source.label is not None:
        flip_unequal(r, work.source.label[block], work.target.label[columns], buffers)
    return r


def cosines(target: Side, features: Tensor, columns: Positions, buffers: Buffers) -> Tensor:
    """Unit features (B, D) times those of the columns: (B, K), in a buffer."""
    others = _gather(target, "features", columns, buffers, "target")
    r = buffers.empty("r", len(features), len(others), device=features.device)
    torch.mm(features, others.T, out=r)
    r *= target.inverse_norm[columns]
    return r


def products(target: Side, probs: Tensor, columns: Positions, buffers: Buffers,
             classes: Tensor | None = None) -> Tensor:
    """p . p of probs (B, C), or these classes of theirs, with the columns: (B, K), in a buffer."""
    others = _gather(target, "probs", columns, buffers, "target")
    if classes is not None and len(classes) < others.shape[1]:
        others = others.index_select(1, classes)  # a fifth of the time of others[:, classes]
    pp = buffers.empty("pp", len(probs), len(others), device=probs.device)
    return torch.mm(probs, others.T, out=pp)


def flip_unequal(r: Tensor, label: Tensor, other_label: Tensor, buffers: Buffers) -> None:
    """Change the sign of r (B, K) in place where the labels differ: r times 1 - 2 min(1, |a - b|),
    labels being numbered."""
    spare = buffers.empty("spare", *r.shape, device=r.device)
    torch.sub(label[:, None], other_label, out=spare)
    r.addcmul_(r, spare.abs_().clamp_(max=1), value=-2)


def _power(r: Tensor, temperature: float, spare: Tensor) -> None:
    """r **= temperature by products where that takes few of them: pow costs ten times as much."""
    while temperature % 2 == 0:
        r *= r
        temperature /= 2
    if temperature == 3:
        r *= torch.mul(r, r, out=spare)
    elif temperature != 1:
        r.pow_(temperature)


def _gather(side: Side, name: str, positions: Positions, buffers: Buffers, use: str) -> Tensor:
    """The rows' features or probs in float32: a view where they lie so, else in a buffer."""
    matrix = getattr(side.rows, name)
    if side.order is None and isinstance(positions, slice):
        return matrix[positions].float()
    rows: Tensor = positions if side.order is None else side.order[positions]  # type: ignore
    if matrix.dtype != torch.float32:
        return matrix.index_select(0, rows).float()
    out = buffers.empty(f"{use} {name}", len(rows), matrix.shape[1], device=matrix.device)
    return torch.index_select(matrix, 0, rows, out=out)


def inverse_norms(features: Tensor) -> Tensor | None:
    """1 / |f| (N,) float32, 0 for a zero row; None where one is beyond SAFE_NORMS."""
    norms = torch.empty(len(features), device=features.device)
    for rows in row_slices(len(features), NORM_ROWS):
        torch.linalg.vector_norm(features[rows].float(), dim=1, out=norms[rows])
    zero = norms == 0
    if zero.any() and features[zero].any():  # a row of tiny entries has norm 0, too
        return None
    if not ((norms > SAFE_NORMS[0]) & (norms < SAFE_NORMS[1]) | zero).all():
        return None
    return torch.where(zero, 0, 1 / norms)


def numbered(source: Tensor | None, target: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The labels numbered from 0, in float32, which holds such numbers exactly."""
    if source is None:
        return None, None
    numbers = torch.cat([source, target]).unique(return_inverse=True)[1].float()
    return numbers[:len(source)], numbers[len(source):]


def _after(stop: int, columns: Positions, edges: Tensor) -> tuple[Positions, Tensor]:
    """The columns at positions from `stop` on, and their edges."""
    if isinstance(columns, slice):
        first = min(max(columns.start, stop), columns.stop)
        return slice(first, columns.stop), edges[:, first - columns.start:]
    first = int(torch.searchsorted(columns, stop))
    return columns[first:], edges[:, first:]
