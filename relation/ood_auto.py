"""One outlier score that no outlier was needed for: `auto`.

Six scores (`ood_witnesses.py`) say in their own units how far a row is from the training set.
What is usual is known from the training rows, each judged without itself: of their m values v

    P(x) = share of the v above x, equal ones by half                        up to u
    P(x) = T / (1 + (x - u) / e)                                             above u

with u their 90 % point, T the share above it and e their mean excess over u. The tail is Pareto's,
the heaviest with which the excess still orders rows: beyond what was seen, a score that shouts
(an energy that was fitted to the training rows, a covariance of few rows) can't silence the others.

    auto = mean of the two largest -log P of the scores           HIGHER = MORE OUTLYING

in nats. What is odd in one respect is ordinary in others, which a mean over all would let outweigh
it; two are seldom odd by chance. No setting, no weight, and nothing that depends on the other rows
that are judged: of one row alone it is the same. A training row's `auto` is made of its values
without itself.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import row_blocks
from relation.ood_witnesses import NAMES, Outputs, fit_witnesses
from relation.sampling import sample_rows

CALIBRATED = 16_384  # training rows that P is taken from: 1,600 of them above u
RESOLVED = 1e-5  # share of u that e is at least
USUAL = 0.9  # below it values are counted, above it the tail is fitted
JUDGED = 8192  # rows at a time, between two steps of the progress bar


class AutoOutliers(NamedTuple):
    """scores (N,) float32 on the CPU, higher = more outlying, and the -log P of each part."""

    scores: Tensor
    parts: dict[str, Tensor]


class Tail(NamedTuple):
    """What is usual of one score."""

    values: Tensor  # (m,) ascending
    bound: float  # u
    excess: float  # e; 0 where nothing exceeds u but for rounding

    def surprise(self, x: Tensor) -> Tensor:
        """-log P of x (N,), float64; 0 where no training row has a value."""
        m = len(self.values)
        below = torch.searchsorted(self.values, x, right=False)
        up_to = torch.searchsorted(self.values, x, right=True)
        # Half a row more on either side: no probability is 0 or 1.
        counted = -((m - (below + up_to) / 2 + 0.5) / (m + 1)).log()
        if self.excess == 0:
            return counted
        above = m - torch.searchsorted(self.values, self.values.new_tensor(self.bound), right=True)
        start = -((above + 0.5) / (m + 1)).log()
        return torch.where(x > self.bound, start + ((x - self.bound) / self.excess).log1p(),
                           counted.clamp(max=float(start)))


@torch.no_grad()
def auto_outlier_scores(source: Outputs, target: Outputs, *,
                        device: torch.device | None = None, progress: bool = False
                        ) -> AutoOutliers:
    """How outlying each row of `source` (N) is to the training rows `target` (M).

    Memory: a few (D, D) and (C, D) in float64, references, and blocks; nothing of size N M.
    Nearest rows and relations are to the references of `references.py`, and P is of CALIBRATED at
    most. `device`: where to compute, that of the training features if not given. Raises ValueError
    for shapes that disagree.
    """
    check_outputs(source, "")
    check_outputs(target, "target_", source)
    witnesses = fit_witnesses(target, device=device or target.features.device,
                              with_energy=source.energy is not None and target.energy is not None)
    usual = sample_rows(torch.arange(len(target.features)), CALIBRATED, witnesses.keys)
    tails = [fit_tail(values) for values in witnesses.without(usual)]
    n = len(source.features)
    parts = torch.empty(len(NAMES), n, dtype=torch.float64)
    for rows in row_blocks(n, "outliers", progress=progress, step=JUDGED):
        values = witnesses.of(source.take(rows))
        parts[:, rows] = torch.stack([tail.surprise(x) for tail, x in zip(tails, values)]).cpu()
    return _joined(parts)


@torch.no_grad()
def left_out_outlier_scores(target: Outputs, *, device: torch.device | None = None,
                            progress: bool = False) -> AutoOutliers:
    """How outlying each training row is to the others: `auto` (M,) of a fit without it.

    Memory, device and errors as in `auto_outlier_scores`.
    """
    check_outputs(target, "target_")
    witnesses = fit_witnesses(target, device=device or target.features.device,
                              with_energy=target.energy is not None)
    n = len(target.features)
    parts = torch.empty(len(NAMES), n, dtype=torch.float64)
    for rows in row_blocks(n, "outliers", progress=progress, step=JUDGED):
        parts[:, rows] = witnesses.without(torch.arange(rows.start, rows.stop)).cpu()
    usual = sample_rows(torch.arange(n), CALIBRATED, witnesses.keys)
    for part in parts:
        part.copy_(fit_tail(part[usual]).surprise(part))
    return _joined(parts)


def _joined(parts: Tensor) -> AutoOutliers:
    """Of the -log P (W, N) of each score."""
    return AutoOutliers(parts.topk(2, dim=0).values.mean(0).float(),
                        dict(zip(NAMES, parts.float())))


def check_outputs(outputs: Outputs, prefix: str, beside: Outputs | None = None) -> None:
    """Raise ValueError unless all tensors have as many rows, and the widths of those `beside`."""
    features = outputs.features
    if features.ndim != 2 or not features.is_floating_point() or features.numel() == 0:
        raise ValueError(f"{prefix}features: expected floats of shape (N, D) with N > 0, "
                         f"got {features.dtype} {tuple(features.shape)}")
    if outputs.probs.ndim != 2 or len(outputs.probs) != len(features):
        raise ValueError(f"{prefix}probs: expected shape ({len(features)}, C), "
                         f"got {tuple(outputs.probs.shape)}")
    for name in ("labels", "energy"):
        values = getattr(outputs, name)
        if values is not None and values.shape != features.shape[:1]:
            raise ValueError(f"{prefix}{name}: expected shape ({len(features)},), "
                             f"got {tuple(values.shape)}")
    for name in ("features", "probs") if beside is not None else ():
        wanted, got = (getattr(each, name).shape[1] for each in (beside, outputs))
        if wanted != got:
            raise ValueError(f"{prefix}{name}: expected {wanted} columns, got {got}")


def fit_tail(values: Tensor) -> Tail:
    """What is usual, from the values (m,) of training rows that were left out."""
    values = values.double().sort().values
    bound = values[int(USUAL * len(values))]
    beyond = values[values > bound]
    excess = float((beyond - bound).mean()) if len(beyond) else 0.0
    # Two rows that are nearest to each other are equally far, but for rounding.
    return Tail(values, float(bound), excess if excess > RESOLVED * abs(float(bound)) else 0.0)
