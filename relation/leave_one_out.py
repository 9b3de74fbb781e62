"""Probabilities that do not use a row's own label: ridge regression, each row left out in turn.

N rows, D features, C classes. With x the feature scaled to unit L2 norm and a constant beside it,
y the one-hot given label, w >= 0 the weight of a row and a the penalty:

    A = sum_i w_i x_i x_i^T        B = sum_i w_i x_i y_i^T        W = (A + a I)^-1 B
    h_i = w_i x_i^T (A + a I)^-1 x_i                         what row i adds to its own prediction
    z_i = (W^T x_i - h_i y_i) / (1 - h_i)                    the prediction of a fit without row i
    p_i = softmax(z_i / softmax_temperature)

The third line is an identity, not an approximation (Sherman-Morrison; Allen 1974), so N fits cost
as much as one. Rows of weight 0 are predicted by a fit that never saw them. A class of one row is
unknown to the fit without that row: its z is 0 and the row is suspect, as nothing supports it.

Two passes over the rows, in blocks: one for A and B, one for z and h. Of A = V diag(v) V^T only
W and R = V diag(v + a)^-1/2 (D, D) meet the rows, as h_i = w_i |R^T x_i|^2. A second fit to some of
the same rows starts from A and B and takes the others out. Products are float64 up to EXACT rows
and float32 beyond, summed over blocks in float64. Held in memory are A and V (D, D) and B (D, C)
in float64, one block, and what the caller keeps of the result.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from relation.kernel import unit_rows
from relation.parallel import AHEAD, in_order
from relation.sampling import row_keys, sample_rows
from relation.tiles import row_slices

BLOCK = 4096  # rows at a time: 16 MiB of float32 for a thousand features
EXACT = 8192  # rows up to which products are float64; beyond, float32 halves the time
COLUMNS = 256  # of A at a time
WAITING = 2**25  # entries of blocks that wait for their turn: beyond, one is computed at a time
GRAM_ROWS = 2**16  # of which A is made in a rough fit, or these for each feature if that is more:
GRAM_ROWS_OF_FEATURE = 64  # a covariance of n rows loses D / n of what one of all rows tells apart
SAMPLED = 4096  # rows on which penalty and temperature are chosen; more change neither by much
# Times the sum of the weights; below 1e-7 the penalty would be less than what float32 rounds off.
PENALTIES = tuple(10.0 ** exponent for exponent in range(-7, 1))
NEWTON_STEPS = 30
TOLERANCE = 1e-4  # of the temperature, relative
SHARPEST = 1e4  # bound of 1 / softmax_temperature, which has no optimum where classes separate


class _Rows(NamedTuple):
    """What is fitted. `coordinates` stand for x where there are more features than rows; rows are
    sampled by their keys (N,)."""

    features: Tensor
    labels: Tensor
    weights: Tensor
    keys: Tensor
    coordinates: Tensor | None
    device: torch.device
    rough: bool = False

    @property
    def share(self) -> float:
        """Of the rows, of which A is made: 1 unless `rough`."""
        n, dim = self.features.shape
        return min(1.0, max(GRAM_ROWS, GRAM_ROWS_OF_FEATURE * dim) / n) if self.rough else 1.0

    def drawn(self, rows: slice | Tensor) -> Tensor:
        """(B,) bool: the chosen rows that are in this share, those of least keys."""
        return (self.keys[rows] >> 43) < (2 * self.share - 1) * 2**20

    def added(self, chosen: slice | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the chosen rows add: labels (L,) and their rows (L, D + 1) of B^T; the upper
        triangle of A."""
        x = self.inputs(chosen)
        weighted, width = x * self.weights[chosen, None].to(x.dtype), x.shape[1]
        # Each class in the type of x first: to convert each row takes four times as long.
        found, which = self.labels[chosen].unique(return_inverse=True)
        part = x.new_zeros(len(found), width).index_add_(0, which, weighted)
        if self.share < 1:
            some = self.drawn(chosen)
            x, weighted = x[some], weighted[some] / self.share
        products = x.new_zeros(width, width)
        for columns in row_slices(width, COLUMNS):  # of the rest A is a mirror
            torch.mm(x[:, columns].T, weighted[:, columns.start:],
                     out=products[columns, columns.start:])
        return found, part, products

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if len(self.labels) <= EXACT else torch.float32

    def inputs(self, rows: slice | Tensor) -> Tensor:
        """x (B, D + 1) of the chosen rows: unit features and a constant."""
        if self.coordinates is not None:
            return self.coordinates[rows]
        x = unit_rows(self.features[rows].to(self.device)).to(self.dtype)
        return torch.cat([x, x.new_ones(len(x), 1)], 1)


class LeaveOneOut(NamedTuple):
    """A fit: its rows, A (D + 1, D + 1) and B (D + 1, C), the settings, and W and R of them."""

    rows: _Rows
    gram: Tensor
    sums: Tensor
    penalty: float
    softmax_temperature: float
    solution: Tensor  # W (D + 1, C)
    root: Tensor  # R (D + 1, D + 1)

    def blocks(self, *, progress: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, log p (B, C)) for all rows in order: nothing of size (N, C)."""
        rows = self.rows
        for block in row_blocks(len(rows.labels), "leave-one-out", progress=progress):
            x, weights = rows.inputs(block), rows.weights[block].to(rows.dtype)
            own = weights * (x @ self.root).square_().sum(1)
            z = _left_out(x @ self.solution, own, rows.labels[block])
            yield block, torch.log_softmax(z.div_(self.softmax_temperature), 1)

    def refit(self, weights: Tensor, *, progress: bool = False) -> "LeaveOneOut":
        """The fit with other weights (N,) and the same settings. Only rows whose weight changes
        are read.

        Raises ValueError as `fit_leave_one_out`.
        """
        rows = self.rows
        _check_weights(weights, len(rows.labels))
        weights = weights.to(rows.device, torch.float64)
        change = rows._replace(weights=weights - rows.weights)
        gram, sums = _add_up(change, self.sums.shape[1], progress=progress)
        return _solved(rows._replace(weights=weights), self.gram + gram, self.sums + sums,
                       (self.penalty, self.softmax_temperature))


def fit_leave_one_out(features: Tensor, labels: Tensor, classes: int, *,
                      weights: Tensor | None = None, penalty: float | None = None,
                      softmax_temperature: float | None = None, progress: bool = False
                      ) -> LeaveOneOut:
    """Fit the given labels (N,) on features (N, D), ready to predict each row without itself.

    weights (N,) >= 0, all 1 if not given. Penalty and temperature that are not given minimise the
    leave-one-out cross-entropy of the given labels over the rows of positive weight, by closed
    form; beyond SAMPLED rows they are chosen on that many random ones (predicted by the fit to
    all). For fixed settings the result is exact. On the CPU for Apple's GPUs, which lack float64.

    Raises ValueError for shapes that disagree, labels outside 0 .. classes - 1, negative weights or
    no positive one, a penalty or a temperature that is not above 0.
    """
    weights = _check(features, labels, classes, weights, penalty, softmax_temperature)
    device = torch.device("cpu") if features.device.type == "mps" else features.device
    weights = weights.to(device, torch.float64)
    rows = _Rows(features.detach(), labels.to(device), weights, row_keys(features).to(device), None,
                 device)
    if features.shape[1] >= len(features):
        rows = rows._replace(coordinates=_coordinates(rows.inputs(slice(None)).double())
                             .to(rows.dtype))
    gram, sums = _add_up(rows, classes, progress=progress)
    return _solved(rows, gram, sums, (penalty, softmax_temperature))


def fit_roughly(features: Tensor, labels: Tensor, classes: int, *, progress: bool = False
                ) -> LeaveOneOut:
    """As `fit_leave_one_out`, where there are many rows: A is made of GRAM_ROWS of them and scaled,
    B of all; penalty and temperature are chosen on a quarter of SAMPLED."""
    weights = _check(features, labels, classes, None, None, None)
    device = torch.device("cpu") if features.device.type == "mps" else features.device
    rows = _Rows(features.detach(), labels.to(device), weights.to(device),
                 row_keys(features).to(device), None, device, rough=True)
    return _solved(rows, *_add_up(rows, classes, progress=progress), (None, None))


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


def _coordinates(x: Tensor) -> Tensor:
    """(N, N) with the inner products of x (N, D): all that the predictions depend on."""
    values, vectors = torch.linalg.eigh(x @ x.T)
    return vectors * values.clamp(min=0).sqrt()


def _add_up(rows: _Rows, classes: int, *, progress: bool) -> tuple[Tensor, Tensor]:
    """A (D + 1, D + 1) and B (D + 1, C), float64, of the rows whose weight is not 0."""
    width = rows.inputs(slice(0, 1)).shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
    sums = torch.zeros(classes, width, dtype=torch.float64, device=rows.device)
    counted = rows.weights.nonzero()[:, 0]
    # All rows count, most of the time: a slice copies nothing, and reads a mapped file in order
    pieces = [block if len(counted) == len(rows.labels) else counted[block]
              for block in row_slices(len(counted), BLOCK)]
    blocks = row_blocks(len(counted), "ridge regression", progress=progress)
    # Results wait for their turn in the order of rows.
    waiting = AHEAD * torch.get_num_threads() * width * width
    added = in_order(rows.added, pieces, rows.device) if waiting <= WAITING else \
        map(rows.added, pieces)
    for _, (found, part, products) in zip(blocks, added):
        sums.index_add_(0, found, part.double())
        gram += products
    return gram.triu() + gram.triu(1).T, sums.T


def _solved(rows: _Rows, gram: Tensor, sums: Tensor,
            settings: tuple[float | None, float | None]) -> LeaveOneOut:
    """The fit from A and B; settings (penalty, softmax_temperature) that are None are chosen."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_(min=0)
    turned = vectors.T @ sums
    if None in settings:
        settings = _choose(rows, values, vectors, turned, settings)
    shrunk = vectors / (values + settings[0]).sqrt()
    solution = shrunk @ (turned / (values + settings[0]).sqrt()[:, None])
    # Each class in a row of memory, for `products_at`.
    solution = solution.T.to(rows.dtype).contiguous().T
    return LeaveOneOut(rows, gram, sums, *settings, solution, shrunk.to(rows.dtype))


def _left_out(z: Tensor, own: Tensor, labels: Tensor) -> Tensor:
    """z (B, C) of the fit without the row, from that with it and h (B,); in place."""
    z.scatter_add_(1, labels[:, None], -own[:, None])
    return z.div_((1 - own)[:, None])


def _choose(rows: _Rows, values: Tensor, vectors: Tensor, turned: Tensor,
            settings: tuple[float | None, float | None]) -> tuple[float, float]:
    """Penalty and temperature of least cross-entropy; what is given stays.

    In the basis of V one more penalty costs a scaling and a product, and not a fit.
    """
    penalty, softmax_temperature = settings
    chosen = sample_rows(rows.weights.nonzero()[:, 0], SAMPLED // (4 if rows.rough else 1),
                         rows.keys)
    x = rows.inputs(chosen) @ vectors.to(rows.dtype)
    labels, weights = rows.labels[chosen], rows.weights[chosen].to(rows.dtype)
    values, turned = values.to(rows.dtype), turned.to(rows.dtype)
    total = float(rows.weights.sum())
    trials, sharpness = [], 1.0
    for candidate in [share * total for share in PENALTIES] if penalty is None else [penalty]:
        shrunk = x / (values + candidate)
        z = _left_out(shrunk @ turned, weights * (shrunk * x).sum(1), labels)
        sharpness = best_sharpness(z, labels, weights, sharpness) if softmax_temperature is None \
            else 1 / softmax_temperature
        loss = (sharpness * z).logsumexp(1) - sharpness * z.gather(1, labels[:, None])[:, 0]
        trials.append((float(weights @ loss), candidate, 1 / sharpness))
    return min(trials)[1:]


def best_sharpness(z: Tensor, labels: Tensor, weights: Tensor, sharpness: float = 1.0) -> float:
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
    _check_weights(weights, n)
    for name, value in {"penalty": penalty, "softmax_temperature": softmax_temperature}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
    return weights


def _check_weights(weights: Tensor, n: int) -> None:
    if weights.shape != (n,) or weights.min() < 0 or not weights.any():
        raise ValueError(f"weights: expected {n} numbers of at least 0, not all of them 0")
