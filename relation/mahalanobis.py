"""Mahalanobis distance to the nearest class, each with its own covariance: HIGHER = MORE OUTLYING.

A class c of mean m and covariance S (ridge included) is at the distance y^T S^-1 y, y = f - m: by
forward substitution D^2 multiplications in float64 for each row and class. Only the smallest counts
for a row. So first the LIKELY classes of nearest mean are computed, and then only those whose lower
bound does not exceed what was found. Two bounds, both proven, by products in float32:

Directions. For any A (D, K) with A^T S A = I

    |A^T y|^2  <=  y^T S^-1 y                    (Cauchy-Schwarz in the metric of S)

and the first columns of A alone are a bound, too. Those of large v^T T v / v^T S v are wanted, T
the covariance of all test rows: a few steps of block Lanczos on S^-1 T. The sum is concentrated: a
covariance of not many more rows than features has tiny eigenvalues.

Complement. With few rows X (n, D), centred and divided by sqrt(n), S = X^T X + ridge I and

    y^T S^-1 y  =  (|y|^2 - |A^T y|^2) / ridge,    A = X^T C,  C C^T = (X X^T + ridge I)^-1

in K = n columns. Bounds carry the worst case of rounding; where that leaves nothing of them, as
with features that are NaN or beyond float32, the distance is computed.

N source (test) rows, M target (training) rows, D features. In memory: the mean of each class,
GROUP classes with (D, D) each, and BLOCK rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from relation.tiles import row_slices

RIDGE = 1e-3  # added to the diagonal of every covariance, as published
BLOCK = 8192  # rows at a time
GROUP = 8  # classes at a time: a block of rows is read once for all of them
LIKELY = 4  # classes of each row that are computed first
PAYS = 4  # times as many test rows as a class has rows and features make up for a second pass
PARTS = 16  # a step of Lanczos takes D / PARTS directions
STEPS = 4
SAMPLE = 4096  # test rows that directions are chosen by; distances do not depend on them


class _Bound(NamedTuple):
    """From below, of the distances of rows that a centre is subtracted from."""

    columns: Tensor  # A (D, K) float32
    shift: Tensor  # A^T (m - centre) (K,) float32
    mean: Tensor  # m - centre (D,) float32
    ridge: float | None  # of the complement; None: directions
    slack: float  # how far S and its factor may be from each other by rounding, relative


class _Class(NamedTuple):
    mean: Tensor  # (D,) float64
    factor: Tensor  # (D, D) float64, the lower Cholesky factor of S
    bound: _Bound | None  # None: every row is computed


def mahalanobis(features: Tensor, target_features: Tensor, target_labels: Tensor, *,
                progress: bool = False) -> Tensor:
    """min_c (f - m_c)^T (S_c + 1e-3 I)^-1 (f - m_c) (N,) float32, of features (N, D).

    m_c and S_c are the mean and the covariance (divided by the class's count) of the target rows
    with label c; classes without rows are left out. Features are taken as the model gives them and
    may be half precision or memory-mapped. After Lee et al. 2018, who share one covariance between
    all classes, as most libraries do under this name.

    In float64, since a class with fewer rows than D has eigenvalues of 1e-3 beside large ones;
    features so large that float64 loses the 1e-3 get the smallest ridge that it keeps.
    Computed where `features` are, or on the CPU where that device has no float64.
    """
    device = torch.device("cpu") if features.device.type == "mps" else features.device
    numbers, counts = target_labels.unique(return_inverse=True, return_counts=True)[1:]
    order = numbers.argsort(stable=True).to(target_features.device)
    members = order.split(counts.tolist())
    means = _means(target_features, numbers, counts, device)
    best = torch.full((len(features),), torch.inf, dtype=torch.float64, device=device)
    n, dim = features.shape
    prune = n > PAYS * (len(order) / len(members) + dim) and len(members) > LIKELY
    with tqdm(total=len(members) * (1 + prune), desc="Mahalanobis", unit=" classes", delay=1,
              disable=not progress) as bar:
        if prune:
            likely = _likely(features, means)
            for c, rows in enumerate(members):
                found = _fit(target_features, rows, means[c])
                _visit(found, features, (likely == c).any(1).nonzero()[:, 0], best)
                bar.update()
        centre, spread = means.mean(0).float(), _spread(features, device) if prune else None
        for some in row_slices(len(members), GROUP):
            group = [_fit(target_features, rows, mean, spread, centre)
                     for rows, mean in zip(members[some], means[some])]
            for block in row_slices(n, BLOCK):
                near = _less(features[block], centre) if prune else None
                for found in group:
                    rows = _left(found.bound, near, best[block])
                    _visit(found, features[block], rows, best[block])
            bar.update(len(group))
    return best.float().to(features.device)


def _visit(found: _Class, features: Tensor, rows: Tensor, best: Tensor) -> None:
    """Lower `best` (B,) of the rows to their distances from the class."""
    for some in rows.split(BLOCK):
        centred = features[some.to(features.device)].to(found.mean) - found.mean
        whitened = torch.linalg.solve_triangular(found.factor, centred.T, upper=False)
        best[some] = torch.minimum(best[some], whitened.square_().sum(0))


def _left(bound: _Bound | None, x: Tensor | None, best: Tensor) -> Tensor:
    """Which of the rows x (B, D), less the centre, may be nearer than `best` (B,)."""
    rows = torch.arange(len(best), device=best.device)
    if bound is None or x is None:
        return rows
    dim, width = bound.columns.shape
    # Twice the worst case of a float32 product of D, and of what is done with it.
    rounding = (dim + width + 16) * 2.0**-23
    norm = x.norm(dim=1)
    size = norm + bound.mean.norm()
    margin = rounding * bound.columns.norm() * size + torch.finfo(torch.float32).tiny
    total = torch.zeros_like(norm)
    first = max(1, width // STEPS)
    ends = [first, 2 * first, width] if bound.ridge is None else [width]
    for part in map(slice, [0, *ends], ends):
        some = x if len(rows) == len(x) else x.index_select(0, rows)
        total += (some @ bound.columns[:, part]).sub_(bound.shift[part]).square_().sum(1)
        if bound.ridge is None:
            lower = (total.sqrt() - margin[rows]).clamp_(min=0).square_()
        else:
            squares = norm.square() - 2 * (x @ bound.mean) + bound.mean.square().sum()
            squares -= (2 * rounding + bound.slack) * size.square()
            lower = (squares - (total.sqrt() + margin).square()) / bound.ridge
        # What is not finite says nothing.
        nearer = lower * (1 - rounding - bound.slack) <= best[rows]
        kept = nearer | ~lower.isfinite() | best[rows].isnan()
        rows, total = rows[kept], total[kept]
    return rows


def _fit(features: Tensor, members: Tensor, mean: Tensor, spread: Tensor | None = None,
         centre: Tensor | None = None) -> _Class:
    """The class of these rows of the target; with a bound where T (D, D) and a centre are given."""
    covariance = torch.zeros(len(mean), len(mean), dtype=mean.dtype, device=mean.device)
    for rows in row_slices(len(members), BLOCK):
        covariance += _square(features[members[rows]].to(mean) - mean)
    covariance /= len(members)
    rounding = len(mean) * torch.finfo(mean.dtype).eps * float(covariance.trace())
    ridge = max(RIDGE, rounding)
    covariance.diagonal().add_(ridge)
    factor, slack = torch.linalg.cholesky(covariance), 8 * rounding / ridge
    if spread is None or centre is None or not slack < 0.1:
        return _Class(mean, factor, None)
    few = 2 * len(members) <= len(mean)
    columns = _complement(features[members].to(mean) - mean, ridge) if few else \
        _directions(covariance, factor, spread)
    shifted = mean - centre
    return _Class(mean, factor, _Bound(columns.float(), (shifted @ columns).float(),
                                       shifted.float(), ridge if few else None, slack))


def _square(rows: Tensor) -> Tensor:
    """rows^T rows (D, D)."""
    if rows.device.type == "cpu":  # numpy knows that it is symmetric: half the time
        return torch.from_numpy(rows.numpy().T @ rows.numpy())
    return rows.T @ rows


def _complement(centred: Tensor, ridge: float) -> Tensor:
    """A (D, n), of centred rows (n, D)."""
    x = centred / len(centred) ** 0.5
    inner = x @ x.T
    inner.diagonal().add_(ridge)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(inner), x, upper=False).T


def _directions(covariance: Tensor, factor: Tensor, spread: Tensor) -> Tensor:
    """A (D, K) with A^T S A = I, the most telling column first."""
    dim = len(spread)
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(dim, max(1, dim // PARTS), dtype=spread.dtype, generator=generator)
    steps = [step.to(spread.device)]
    for _ in range(STEPS):
        steps.append(torch.linalg.qr(torch.cholesky_solve(spread @ steps[-1], factor)).Q)
    basis = torch.linalg.qr(torch.cat(steps[1:], 1)).Q
    inner = torch.linalg.cholesky(basis.T @ covariance @ basis)
    basis = torch.linalg.solve_triangular(inner.T, basis, upper=True, left=False)
    return basis @ torch.linalg.eigh(basis.T @ spread @ basis).eigenvectors.flip(1)


def _means(features: Tensor, numbers: Tensor, counts: Tensor, device: torch.device) -> Tensor:
    """(C, D) float64, of classes numbered from 0."""
    total = torch.zeros(len(counts), features.shape[1], dtype=torch.float64, device=device)
    for rows in row_slices(len(features), BLOCK):
        total.index_add_(0, numbers[rows].to(device), features[rows].to(total))
    return total / counts[:, None].to(device)


def _less(features: Tensor, centre: Tensor) -> Tensor:
    """Features (B, D) less a centre (D,), in float32."""
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features.to(centre.device, wide) - centre).float()


def _likely(features: Tensor, means: Tensor) -> Tensor:
    """(N, LIKELY) classes of nearest mean, for all that float32 tells."""
    centre = means.mean(0).float()
    centres = (means - centre).float()
    likely = torch.empty(len(features), LIKELY, dtype=torch.int64, device=means.device)
    for rows in row_slices(len(features), BLOCK):
        nearness = _less(features[rows], centre) @ centres.T - centres.square().sum(1) / 2
        likely[rows] = nearness.topk(LIKELY, sorted=False).indices
    return likely


def _spread(features: Tensor, device: torch.device) -> Tensor:
    """T (D, D): the covariance of some of the features, of trace 1; I where float64 has none."""
    some = features[::max(1, len(features) // SAMPLE)].to(device, torch.float64)
    spread = _square(some - some.mean(0))
    size = float(spread.trace())
    return spread / size if 0 < size < torch.inf else torch.eye(len(spread)).to(spread)
