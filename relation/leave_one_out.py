"""Probabilities in which a row's own label has no say: ridge regression, each row left out in turn.

N rows, D features, C classes. With x the feature scaled to unit L2 norm and a constant beside it,
y the one-hot given label, w >= 0 the weight of a row and a the penalty:

    A = sum_i w_i x_i x_i^T        B = sum_i w_i x_i y_i^T        W = (A + a I)^-1 B
    h_i = w_i x_i^T (A + a I)^-1 x_i                         what row i adds to its own prediction
    z_i = (W^T x_i - h_i y_i) / (1 - h_i)                    the prediction of a fit without row i
    p_i = softmax(z_i / softmax_temperature)

The third line is an identity, not an approximation (Sherman-Morrison; Allen 1974), so N fits cost
as much as one. Rows of weight 0 are predicted by a fit that never saw them. A class of one row is
unknown to the fit without that row: its z is 0 and the row is suspect, as nothing supports it.

Two passes over the rows, in blocks: one for A and B, one for z and h. Held in memory are A's
eigenvectors (D, D) and B (D, C) in float64, one block, and what the caller keeps of the result.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from tqdm import tqdm

from relation.kernel import unit_rows
from relation.tiles import row_slices

BLOCK = 4096  # rows at a time: 64 MiB of float64 for a thousand features and a thousand classes
SAMPLED = 4096  # rows on which penalty and temperature are chosen; more change neither by much
PENALTIES = tuple(10.0 ** exponent for exponent in range(-9, 1))  # times the sum of the weights
NEWTON_STEPS = 30
TOLERANCE = 1e-4  # of the temperature, relative
SHARPEST = 1e4  # bound of 1 / softmax_temperature, which has no optimum where classes separate


class _Rows(NamedTuple):
    """What is fitted. `coordinates` stand for x where there are more features than rows."""

    features: Tensor
    labels: Tensor
    weights: Tensor
    coordinates: Tensor | None
    device: torch.device

    def inputs(self, rows: slice | Tensor) -> Tensor:
        """x (B, D + 1) of the chosen rows: unit features and a constant, in float64."""
        if self.coordinates is not None:
            return self.coordinates[rows]
        x = unit_rows(self.features[rows].to(self.device)).double()
        return torch.cat([x, x.new_ones(len(x), 1)], 1)


class _Ridge(NamedTuple):
    """A = V diag(values) V^T, so that one more penalty costs a scaling and not a fit."""

    values: Tensor  # (D + 1,)
    vectors: Tensor  # (D + 1, D + 1), the V
    sums: Tensor  # (D + 1, C), V^T B

    def left_out(self, x: Tensor, labels: Tensor, weights: Tensor, penalty: float) -> Tensor:
        """z (B, C) of rows with x V (B, D + 1), labels (B,), weights (B,)."""
        shrunk = x / (self.values + penalty)
        own = weights * (shrunk * x).sum(1)
        z = shrunk @ self.sums - own[:, None] * one_hot(labels, self.sums.shape[1])
        return z / (1 - own)[:, None]


class LeaveOneOut(NamedTuple):
    """A fit, and the two settings that it predicts with."""

    rows: _Rows
    ridge: _Ridge
    penalty: float
    softmax_temperature: float

    def blocks(self, *, progress: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, log p (B, C) float64) for all rows in order: nothing of size (N, C)."""
        rows = self.rows
        for block in row_blocks(len(rows.labels), "leave-one-out", progress=progress):
            z = self.ridge.left_out(rows.inputs(block) @ self.ridge.vectors, rows.labels[block],
                                    rows.weights[block], self.penalty)
            yield block, torch.log_softmax(z / self.softmax_temperature, 1)


def fit_leave_one_out(features: Tensor, labels: Tensor, classes: int, *,
                      weights: Tensor | None = None, penalty: float | None = None,
                      softmax_temperature: float | None = None, progress: bool = False
                      ) -> LeaveOneOut:
    """Fit the given labels (N,) on features (N, D), ready to predict each row without itself.

    weights (N,) >= 0, all 1 if not given. Penalty and temperature that are not given minimise the
    leave-one-out cross-entropy of the given labels over the rows of positive weight, by closed
    form; beyond SAMPLED rows they are chosen on that many random ones (predicted by the fit to
    all). For fixed settings the result is exact. float64 throughout, on the CPU for Apple's GPUs.

    Raises ValueError for shapes that disagree, labels outside 0 .. classes - 1, negative weights or
    no positive one, a penalty or a temperature that is not above 0.
    """
    weights = _check(features, labels, classes, weights, penalty, softmax_temperature)
    device = torch.device("cpu") if features.device.type == "mps" else features.device
    rows = _Rows(features, labels.to(device), weights.to(device, torch.float64), None, device)
    if features.shape[1] >= len(features):
        rows = rows._replace(coordinates=_coordinates(rows.inputs(slice(None))))
    ridge = _fit(rows, classes, progress=progress)
    if penalty is None or softmax_temperature is None:
        penalty, softmax_temperature = _choose(ridge, rows, penalty, softmax_temperature)
    return LeaveOneOut(rows, ridge, penalty, softmax_temperature)


def leave_one_out_probs(features: Tensor, labels: Tensor, classes: int, *,
                        dtype: torch.dtype = torch.float32, **settings) -> Tensor:
    """Leave-one-out probabilities (N, C) stored as `dtype`; the rest as `fit_leave_one_out`."""
    probs = torch.empty(len(labels), classes, dtype=dtype, device=features.device)
    fitted = fit_leave_one_out(features, labels, classes, **settings)
    for rows, log_probs in fitted.blocks(progress=settings.get("progress", False)):
        probs[rows] = log_probs.exp().to(probs.device, dtype)
    return probs


def row_blocks(n: int, what: str, *, progress: bool, step: int = BLOCK) -> Iterator[slice]:
    """Slices of at most `step` rows that cover range(n), with a progress bar."""
    with tqdm(total=n, desc=what, unit=" rows", unit_scale=True, delay=1,
              disable=not progress) as bar:
        for rows in row_slices(n, step):
            yield rows
            bar.update(rows.stop - rows.start)


def sample_rows(rows: Tensor, at_most: int) -> Tensor:
    """`at_most` of the given row numbers, in order. Random, as even steps may meet one class only;
    with a fixed seed, so that the same data give the same rows."""
    if len(rows) <= at_most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:at_most].sort().values.to(rows.device)]


def _coordinates(x: Tensor) -> Tensor:
    """(N, N) with the inner products of x (N, D): all that the predictions depend on."""
    values, vectors = torch.linalg.eigh(x @ x.T)
    return vectors * values.clamp(min=0).sqrt()


def _fit(rows: _Rows, classes: int, *, progress: bool) -> _Ridge:
    width = rows.inputs(slice(0, 1)).shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
    sums = torch.zeros(classes, width, dtype=torch.float64, device=rows.device)
    for block in row_blocks(len(rows.labels), "ridge regression", progress=progress):
        x = rows.inputs(block)
        weighted = x * rows.weights[block, None]
        gram += x.T @ weighted
        sums.index_add_(0, rows.labels[block], weighted)
    values, vectors = torch.linalg.eigh(gram)
    return _Ridge(values.clamp_(min=0), vectors, vectors.T @ sums.T)


def _choose(ridge: _Ridge, rows: _Rows, penalty: float | None, softmax_temperature: float | None
            ) -> tuple[float, float]:
    """Penalty and temperature of least cross-entropy; what is given stays."""
    chosen = sample_rows(rows.weights.nonzero()[:, 0], SAMPLED)
    x = rows.inputs(chosen) @ ridge.vectors
    labels, weights = rows.labels[chosen], rows.weights[chosen]
    total = float(rows.weights.sum())
    trials, sharpness = [], 1.0
    for candidate in [share * total for share in PENALTIES] if penalty is None else [penalty]:
        z = ridge.left_out(x, labels, weights, candidate)
        sharpness = _best_sharpness(z, labels, weights, sharpness) if softmax_temperature is None \
            else 1 / softmax_temperature
        loss = (sharpness * z).logsumexp(1) - sharpness * z.gather(1, labels[:, None])[:, 0]
        trials.append((float(weights @ loss), candidate, 1 / sharpness))
    return min(trials)[1:]


def _best_sharpness(z: Tensor, labels: Tensor, weights: Tensor, sharpness: float) -> float:
    """The factor b of least weighted cross-entropy of softmax(b z): convex in b, by Newton's steps
    from `sharpness`."""
    share = weights / weights.sum()
    own = share @ z.gather(1, labels[:, None])[:, 0]
    for _ in range(NEWTON_STEPS):
        q = torch.softmax(sharpness * z, 1)
        mean = (q * z).sum(1)
        curvature = float(share @ ((q * z.square()).sum(1) - mean.square()))
        previous = sharpness
        if curvature > 0:
            sharpness -= float(share @ mean - own) / curvature
        # Newton overshoots where the softmax saturates: at most a factor of 3 each step.
        sharpness = min(max(sharpness, previous / 3, 1 / SHARPEST), previous * 3, SHARPEST)
        if abs(sharpness - previous) < TOLERANCE * previous:
            break
    return sharpness


def _check(features: Tensor, labels: Tensor, classes: int, weights: Tensor | None,
           penalty: float | None, softmax_temperature: float | None) -> Tensor:
    if features.ndim != 2 or not features.is_floating_point() or len(features) == 0:
        raise ValueError(f"features: expected floats of shape (N, D) with N > 0, "
                         f"got {features.dtype} {tuple(features.shape)}")
    n = len(features)
    if labels.shape != (n,) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: expected {n} integers of 0 to {classes - 1}")
    if weights is None:
        weights = torch.ones(n, dtype=torch.float64)
    if weights.shape != (n,) or weights.min() < 0 or not weights.any():
        raise ValueError(f"weights: expected {n} numbers of at least 0, not all of them 0")
    for name, value in {"penalty": penalty, "softmax_temperature": softmax_temperature}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
    return weights
