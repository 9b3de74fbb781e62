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
FLAT = 1e-9  # smallest share of v that a direction keeps: float64 inverts it, however small r is


class Gaussian(NamedTuple):
    """f S^-1 f is the squared norm of f @ whiten; means (C', D) are whitened."""

    centre: Tensor  # (D,) taken off first, as large means would cost digits
    whiten: Tensor  # (D, D)
    means: Tensor
    counts: Tensor  # (C',)
    position: Tensor  # label -> row of means
    shrinkage: float
    spread: float  # root of the mean variance, 1 where there is none

    def distances(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Least squared distance (B,) of features (B, D) float64 to a class mean.

        With `labels` (B,) the rows are training rows, and each is left out of the fit. A row that
        has no other row to be compared with has distance 0.
        """
        w = (features - self.centre) @ self.whiten
        squared = w.square().sum(1, keepdim=True) - 2 * w @ self.means.T \
            + self.means.square().sum(1)
        if labels is None:
            return squared.amin(1).clamp(min=0)
        own = self.position[labels]
        d = w - self.means[own]
        size = d.square().sum(1)
        inner = (w * d).sum(1, keepdim=True) - d @ self.means.T  # e^T S^-1 d for each class
        grow = self.counts[own] / (self.counts[own] - 1).clamp(min=1)
        at = own[:, None]
        squared.scatter_(1, at, (size * grow.square())[:, None])
        inner.scatter_(1, at, (size * grow)[:, None])
        lost = (1 - self.shrinkage) * grow / self.counts.sum()
        # Rounding can reach 1 where one row alone spans a direction.
        squared += (lost / (1 - lost * size).clamp(min=FLAT))[:, None] * inner.square()
        alone = self.counts[own] == 1
        squared[alone, own[alone]] = torch.inf
        least = squared.amin(1).clamp(min=0)
        return torch.where(least.isinf(), 0.0, least)


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
    position = torch.zeros(int(present[-1]) + 1, dtype=torch.int64, device=device)
    position[present] = torch.arange(len(present), device=device)
    shrinkage = oas_shrinkage(within, m - len(present))
    level = float(within.trace()) / dim
    values, vectors = torch.linalg.eigh(within)
    values = (1 - shrinkage) * values.clamp(min=0) + shrinkage * level
    # Rows that are all the same have no spread: any unit serves.
    values = values.clamp(min=FLAT * level) if level > 0 else torch.ones_like(values)
    whiten = vectors / values.sqrt()
    return Gaussian(centre, whiten, means @ whiten, counts, position, shrinkage,
                    level ** 0.5 if level > 0 else 1.0)


def oas_shrinkage(covariance: Tensor, freedom: int) -> float:
    """r in 0 .. 1 for a covariance (D, D) of `freedom` independent deviations."""
    dim = len(covariance)
    squared_trace = float(covariance.trace()) ** 2
    trace_of_square = float(covariance.square().sum())
    above = (1 - 2 / dim) * trace_of_square + squared_trace
    below = (freedom + 1 - 2 / dim) * (trace_of_square - squared_trace / dim)
    return 1.0 if below <= 0 else min(1.0, max(0.0, above / below))
