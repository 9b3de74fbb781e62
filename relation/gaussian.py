"""Distances to class means under one covariance, of each training row also without itself.

M rows f, C classes with n_c rows, mean m_c; d = f - m_c for the row's own class. The covariance
within classes is shrunk towards a multiple of the identity,

    S = (1 - r) sum d d^T / M + r v I        v = trace(sum d d^T / M) / D

with r as in OAS (Chen, Wiesel, Eldar, Hero 2010, equation 23), which needs no cross-validation.
Without row i the mean of its class is at distance g d, g = n_c / (n_c - 1), from it, and the sum of
squares lacks g d d^T, so that with a = (1 - r) g / M and e the distance vector to any mean

    e^T (S - a d d^T)^-1 e = e^T S^-1 e + a (e^T S^-1 d)^2 / (1 - a d^T S^-1 d)

(Sherman and Morrison): exact for the r, v and M of all rows. Held are a few (D, D) and (C, D) in
float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.tiles import row_slices

BLOCK = 4096
COLUMNS = 128  # of whiten at a time: the zeros below the diagonal are left out
FAR = 1e15  # spreads: farther rows are moved there, as float32 cannot hold the square
FLAT = 1e-9  # smallest share of v that a direction keeps: float64 inverts it, however small r is


class Gaussian(NamedTuple):
    """f S^-1 f is the squared norm of (f / spread) @ whiten; means (C', D) are whitened.

    Fitted in float64; whiten, means and gram are float32, as products of these cost most.
    """

    centre: Tensor  # (D,) taken off first, as large means would cost digits
    whiten: Tensor  # (D, D), 0 below the diagonal
    means: Tensor
    gram: Tensor  # (C', C') of the means
    counts: Tensor  # (C',)
    position: Tensor  # label -> row of means, -1 for a label that no row has
    shrinkage: float
    spread: float  # root of the mean variance, 1 where there is none

    @property
    def from_origin(self) -> Tensor:
        """(D,) float32: the centre in units of the spread, which makes `centred` what it was."""
        return (self.centre / self.spread).float()

    def centred(self, features: Tensor) -> Tensor:
        """Features (B, D) float64 from the centre, in units of their spread, in float32."""
        x = (features - self.centre).div_(self.spread)
        if not (x.float().norm(dim=1) <= FAR).all():
            x *= FAR / x.norm(dim=1, keepdim=True).clamp(min=FAR)
        return x.float()

    def whitened(self, plain: Tensor) -> Tensor:
        """(B, D) of `centred` features (B, D)."""
        white = torch.empty_like(plain)
        for at in row_slices(plain.shape[1], COLUMNS):
            torch.mm(plain[:, :at.stop], self.whiten[:at.stop, at], out=white[:, at])
        return white

    def distances(self, white: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Least squared distance (B,) float64 of `whitened(centred(f))` (B, D) to a class mean, and
        which of the means (B,) that is.

        With `labels` (B,) the rows are training rows, and each is left out of the fit. A row that
        has no other row to be compared with has distance 0. Products choose the mean, and the
        distance to it is then that of the difference: products of large numbers would lose it.
        """
        if labels is None:
            least = torch.addmm(self.gram.diagonal(), white, self.means.T, alpha=-2).argmin(1)
            return _squared(white - self.means[least]), least
        products = white @ self.means.T
        squared = self.gram.diagonal() - 2 * products + white.square().sum(1, keepdim=True)
        own = self.position[labels]
        at, d = own[:, None], white - self.means[own]
        size, grow = _squared(d), self.counts[own] / (self.counts[own] - 1).clamp(min=1)
        lost = (1 - self.shrinkage) * grow / self.counts.sum()
        # Rounding can reach 1 where one row alone spans a direction.
        factor = lost / (1 - lost * size).clamp(min=FLAT)
        # e^T S^-1 d for each class
        inner = products.sub_(self.gram[own]).neg_().add_((white * d).sum(1, keepdim=True))
        squared.scatter_(1, at, (size * grow.square()).float()[:, None])
        inner.scatter_(1, at, (size * grow).float()[:, None])
        squared += factor.float()[:, None] * inner.square_()
        alone = self.counts[own] == 1
        squared[alone, own[alone]] = torch.inf
        best = squared.argmin(1)
        e = white - self.means[best]
        is_own = best == own
        least = torch.where(is_own, size * grow.square(), _squared(e))
        inner_best = torch.where(is_own, size * grow, (e * d).sum(1, dtype=torch.float64))
        least += factor * inner_best.square()
        return torch.where(is_own & alone, 0.0, least), best


def fit_gaussian(features: Tensor, labels: Tensor) -> Gaussian:
    """Means of the classes of labels (M,), and the covariance within them; two passes."""
    device, (m, dim) = labels.device, features.shape
    present, at = labels.unique(return_inverse=True)
    counts = at.bincount().double()
    sums = torch.zeros(len(present), dim, dtype=torch.float64, device=device)
    for rows in row_slices(m, BLOCK):
        sums.index_add_(0, at[rows], features[rows].to(device, torch.float64))
    centre = sums.sum(0) / m
    means = sums / counts[:, None] - centre
    within = torch.zeros(dim, dim, dtype=torch.float64, device=device)
    for rows in row_slices(m, BLOCK):
        d = features[rows].to(device, torch.float64) - centre - means[at[rows]]
        within.addmm_(d.T, d, alpha=1 / m)
    position = torch.full((int(present[-1]) + 1,), -1, device=device)
    position[present] = torch.arange(len(present), device=device)
    shrinkage = oas_shrinkage(within, m - len(present))
    level = float(within.trace()) / dim
    values, vectors = torch.linalg.eigh(within)
    values = (1 - shrinkage) * values.clamp(min=0) + shrinkage * level
    # Rows that are all the same have no spread: any unit serves.
    values = values.clamp(min=FLAT * level) if level > 0 else torch.ones_like(values)
    root = torch.linalg.cholesky((vectors * values) @ vectors.T)
    whiten = torch.linalg.solve_triangular(root.T, torch.eye(dim).to(root), upper=True)
    means, spread = means @ whiten, level ** 0.5 if level > 0 else 1.0
    return Gaussian(centre, (spread * whiten).float(), means.float(), (means @ means.T).float(),
                    counts, position, shrinkage, spread)


def _squared(x: Tensor) -> Tensor:
    """(B,) float64 of rows (B, D)."""
    return x.square().sum(1, dtype=torch.float64)


def oas_shrinkage(covariance: Tensor, freedom: int) -> float:
    """r in 0 .. 1 for a covariance (D, D) of `freedom` independent deviations."""
    dim = len(covariance)
    squared_trace = float(covariance.trace()) ** 2
    trace_of_square = float(covariance.square().sum())
    above = (1 - 2 / dim) * trace_of_square + squared_trace
    below = (freedom + 1 - 2 / dim) * (trace_of_square - squared_trace / dim)
    return 1.0 if below <= 0 else min(1.0, max(0.0, above / below))
