"""Every pair of rows whose cosine exceeds a bound near 1, without comparing every pair. Exact.

Two rows of unit length with cosine above b are nearer than radius = sqrt(2 - 2 b). Two bounds, both
proven, discard the rest; no pair above b is ever missed.

Cells. Each row x belongs to the pivot c of largest x . c. For another pivot c', the linear function
x . (c - c') / |c - c'| changes by no more than the distance between two rows, is >= 0 in the cell
of c and <= 0 in that of c'. So rows of c and of c' meet only where both are near the other cell:

    x . c - x . c' <= radius |c - c'|

Projections. With Q orthonormal (D, P), P much smaller than D, and s = |x - Q Q^T x|,

    x . y <= (Q^T x) . (Q^T y) + s_x s_y          (Cauchy-Schwarz on what the projection leaves out)

which is one product of P + 1 numbers per pair; as many directions again judge the pairs that pass,
and full cosines are computed for those that pass again. Q spans what rows differ by within cells.
How many do depends on the data: few where rows form classes and b is near 1, as in trained
networks; all of them, at the cost of the full product, where everything resembles everything.
All bounds carry the worst case of float32 rounding.

N source rows, M target rows, D features, K cells. In memory: 2 P + 4 floats and K bits a row
(1.1 GB for a million rows), and for each thread a tile and the pairs of a few tiles.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from relation.blocks import Buffers
from relation.kernel import unit_rows
from relation.parallel import in_order
from relation.pruning import rounding_margin
from relation.tiles import row_slices

MOST_CELLS = 512  # at a million rows more cost more products with pivots than they save of pairs
DIRECTIONS = 128  # P
SAMPLE = 16384  # rows that pivots and directions are chosen on; the pairs do not depend on them
STEPS = 3  # of k-means, and of the power iteration
BLOCK = 1024  # rows at a time while rows are sorted into cells
TILE = 1024  # rows and columns: 4 MiB of bounds
PAIRS = 2**16  # judged again at a time, by each thread: 64 MiB
SPARSE = 64  # a product over a rectangle costs as much per pair as 1/64 of a pair gathered alone

Pairs = tuple[Tensor, Tensor, Tensor]  # source rows, target rows, cosines in float32, each (E,)


class Picked:
    """Rows `at` (K,) of features (N, D): read as they are asked for, never copied as a whole."""

    def __init__(self, features: "Tensor | Picked", at: Tensor) -> None:
        self.features, self.at = features, at
        self.device: torch.device = features.device
        self.shape: torch.Size = torch.Size((len(at), features.shape[1]))

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, which: Tensor | slice) -> Tensor:
        return self.features[self.at[which]]


class _Side(NamedTuple):
    """Rows prepared for one search; `near` says which cells a row must be compared with."""

    features: Tensor | Picked  # (N, D) as they are stored
    norms: Tensor  # (N,) float64
    projected: Tensor  # (N, P + 1), the last entry is s
    further: Tensor  # (N, P + 1) likewise of the next directions, s of what these leave, too
    home: Tensor  # (N,) the cell of each row
    near: np.ndarray  # (ceil(K / 8), N) uint8, a bit for each cell and row

    def near_to(self, cell: int, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Which of the rows, as positions among them, must be compared with the cell."""
        return np.flatnonzero(self.near[cell // 8, rows] & (128 >> cell % 8))


class NearPairs:
    """All pairs of source and target rows whose cosine exceeds a bound, at least `bound`."""

    def __init__(self, features: Tensor | Picked, target_features: Tensor | Picked | None = None, *,
                 bound: float, progress: bool = False) -> None:
        """features (N, D), target_features (M, D) or None: pairs within the set, each once."""
        self.device = features.device
        self.margin = 2 * rounding_margin(features.shape[1], 0)
        self.radius = math.sqrt(max(0.0, 2 - 2 * bound) + self.margin)
        self.progress = progress
        self.buffers = Buffers()
        sample = unit_rows(features[_spread(len(features), SAMPLE).to(features.device)])
        self.pivots = _pivots(sample, min(MOST_CELLS, 2 * math.isqrt(len(features))))
        self.apart = torch.cdist(self.pivots, self.pivots,
                                 compute_mode="donot_use_mm_for_euclid_dist")
        self.directions = _directions(sample - self.pivots[(sample @ self.pivots.T).argmax(1)])
        self.source = self._side(features)
        self.target = None if target_features is None else self._side(target_features)
        self.order = self.source.home.argsort(stable=True)
        self.sizes = self.source.home.bincount(minlength=len(self.pivots)).tolist()

    @property
    def norms(self) -> tuple[Tensor, Tensor]:
        """Of the source rows (N,) and the target rows (M,), float64."""
        return self.source.norms, (self.target or self.source).norms

    def above(self, bound: float) -> Iterator[Pairs]:
        """Yield pairs with float32 cosine > bound, less rounding, in pieces of at most TILE^2."""
        within = self.target is None
        target = self.source if within else self.target
        start = 0
        for cell in tqdm(range(len(self.pivots)), desc="copies", unit=" cells", delay=1,
                         disable=not self.progress):
            rows = self.order[start:start + self.sizes[cell]]
            start += len(rows)
            if len(rows) == 0:
                continue
            columns = torch.from_numpy(target.near_to(cell)).to(self.device)
            if within:
                columns = columns[target.home[columns] >= cell]
            tiles = [(left[few], right[some])
                     for left, right in self._by_cell(rows, columns, target.home[columns])
                     for few in row_slices(len(left), TILE)
                     for some in row_slices(len(right), TILE)]
            compute = partial(self._tile, target=target, least=bound - self.margin)
            yield from (found for found in in_order(compute, tiles, self.device, largest_batch=1)
                        if len(found[0]))

    def _by_cell(self, rows: Tensor, columns: Tensor, home: Tensor
                 ) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of a cell that meet the columns (K,) of each other one, whose cells are `home`.
        All meet all where they are few: a tile of its own for each would take longer."""
        if len(columns) <= TILE:
            yield rows, columns
            return
        home, order = home.sort(stable=True)
        others, counts = home.unique_consecutive(return_counts=True)
        at = rows.cpu().numpy()
        for other, some in zip(others.tolist(), columns[order].split(counts.tolist())):
            yield rows[torch.from_numpy(self.source.near_to(other, at)).to(self.device)], some

    @torch.no_grad()  # of each thread's own
    def _tile(self, tile: tuple[Tensor, Tensor], target: _Side, least: float) -> Pairs:
        """The pairs of rows (B,) and columns (K,) with cosine above `least`."""
        rows, columns = tile
        bounds = self.buffers.empty("bounds", len(rows), len(columns), device=self.device)
        torch.mm(self.source.projected[rows], target.projected[columns].T, out=bounds)
        # numpy's takes a seventh of the time of torch's
        at = torch.from_numpy(np.flatnonzero((bounds > least).cpu().numpy())).to(self.device)
        i, j = at // len(columns), at % len(columns)
        passed = torch.cat([self._judged(bounds, rows, columns, i[at], j[at], least)
                            for at in row_slices(len(i), PAIRS)]) if len(i) else i
        i, j = i[passed], j[passed]
        if len(i) == 0:
            return rows[i], columns[j], bounds[i, j]
        live_rows, i = i.unique(return_inverse=True)
        live_columns, j = j.unique(return_inverse=True)
        x = unit_rows(self.source.features[rows[live_rows]])
        y = unit_rows(target.features[columns[live_columns]])
        if len(i) * SPARSE < len(x) * len(y):
            cosines = torch.cat([(x[i[at]] * y[j[at]]).sum(1) for at in row_slices(len(i), BLOCK)])
        else:
            cosines = (x @ y.T)[i, j]
        above = cosines > least
        return rows[live_rows][i[above]], columns[live_columns][j[above]], cosines[above]

    def _judged(self, bounds: Tensor, rows: Tensor, columns: Tensor, i: Tensor, j: Tensor,
                least: float) -> Tensor:
        """Which of the pairs i, j (E,) of a tile pass the bound of all directions (E,) bool, each
        pair once: rows of one cell meet twice, and themselves."""
        target = self.source if self.target is None else self.target
        left, right = rows[i], columns[j]
        bound = bounds[i, j] - self.source.projected[left, -1] * target.projected[right, -1]
        passed = bound + (self.source.further[left] * target.further[right]).sum(1) > least
        if self.target is None:
            passed &= (left < right) | (self.source.home[left] != self.source.home[right])
        return passed

    def _side(self, features: Tensor | Picked) -> _Side:
        n, cells = len(features), len(self.pivots)
        both = self.directions[:, :DIRECTIONS], self.directions[:, DIRECTIONS:]
        projected, further = (torch.empty(n, each.shape[1] + 1, device=self.device)
                              for each in both)
        norms = torch.empty(n, dtype=torch.float64, device=self.device)
        home = torch.empty(n, dtype=torch.int64, device=self.device)
        near = np.empty((-(-cells // 8), n), dtype=np.uint8)

        @torch.no_grad()  # of each thread's own
        def compute(block: slice) -> None:
            rows = features[block].to(self.device)
            norms[block] = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
            unit = unit_rows(rows)
            left = unit.square().sum(1)
            for held, some in zip((projected, further), both):
                short = unit @ some
                held[block, :-1] = short
                left -= short.square().sum(1)
                held[block, -1] = (left.clamp(min=0) + self.margin).sqrt()
            toward = unit @ self.pivots.T
            best, home[block] = toward.max(1)
            reach = self.radius * self.apart[home[block]] + self.margin
            near[:, block] = np.packbits((best[:, None] - toward <= reach).cpu().numpy(), axis=1).T

        for _ in in_order(compute, list(row_slices(n, BLOCK)), self.device):
            pass
        return _Side(features, norms, projected, further, home, near)


def _spread(n: int, most: int) -> Tensor:
    """At most `most` of n row numbers, evenly spaced."""
    return torch.arange(n) if n <= most else torch.arange(most) * n // most


def _pivots(sample: Tensor, cells: int) -> Tensor:
    """(K, D): means of unit rows, by a few steps of spherical k-means."""
    pivots = sample[_spread(len(sample), cells).to(sample.device)].clone()
    for _ in range(STEPS):
        home = (sample @ pivots.T).argmax(1)
        sums = torch.zeros_like(pivots).index_add_(0, home, sample)
        pivots = torch.where(sums.norm(dim=1, keepdim=True) > 0, unit_rows(sums), pivots)
    return pivots


def _directions(sample: Tensor) -> Tensor:
    """(D, 2 P) orthonormal: about the directions in which the sample (S, D) is largest, first ones
    first."""
    width = sample.shape[1]
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(width, min(2 * DIRECTIONS, width), generator=generator).to(sample.device)
    for _ in range(STEPS):
        q = torch.linalg.qr(sample.T @ (sample @ q)).Q
    return q
