"""Which rows of a set do not belong to it, at a stated share of false alarms.

The scores of `ood_witnesses.py` judge each row without itself, in the units of a distance: of
Mahalanobis and of the model's doubt, -log max_c p_c, the roots are taken (both are squares where
rows are Gaussian). They are fitted to all rows, and the tail of each is taken to go on as it
begins, with qP the P % point of the values of all rows:

    share of the rows above x = 2^-(1 + h)       h = ((x - q50) / (q75 - q50))^(1 / k)      x > q50
    k = log2((q87.5 - q50) / (q75 - q50))        in LIGHTEST .. 1
    S = -log share                               counted, below q50

k is 1 where the share halves over the same distance again and again, below 1 where it falls faster
and faster, as of Gaussian rows. Outliers hardly move these points; a heavier tail, k > 1, is taken
to be theirs. What is odd in one respect is ordinary in others, and two are seldom odd by chance. S
of the relation is at most the largest of the others: a wrong label that the model has memorised
leaves a row without relations, which says nothing of the row.

    outlier_score = (S_1 + S_2) / 2            the two largest of a row      HIGHER = MORE OUTLYING

The tail of these scores is taken to go on in the same way, with k up to HEAVIEST, so that a share
`rate` of ordinary rows is above the x of h = log2(0.5 / rate), the threshold. Many outliers are
near each other, and move q50 and q75: where they are more than a tenth of the rows some are missed.
All is fitted to FITTED rows where there are more, and judges all rows. Measured at 1 %, on real
sets of 178 to 2,000 rows: see benchmarks/README.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import row_blocks
from relation.near_pairs import Picked
from relation.ood_auto import JUDGED, check_outputs
from relation.ood_witnesses import NAMES, Outputs, fit_witnesses, likeliest
from relation.sampling import row_keys, sample_rows

SQUARES = ("energy", "Mahalanobis")  # the first one is -log max_c p_c without the logits
LIGHTEST, HEAVIEST = 0.7, 1.2  # k of Gaussian rows is 0.77
FITTED = 65_536  # rows of the fit: 64 for each of 1,000 features
WINDOW = 65_536  # rows: 64 of each of 1,000 classes in any order
FEWEST = 30  # rows whose tail can be seen at all


class Outliers(NamedTuple):
    """scores (N,) float32 on the CPU, higher = more outlying; is_outlier (N,) bool; threshold.

    Of fewer than FEWEST rows none is called an outlier, and the threshold is infinite.
    """

    scores: Tensor
    is_outlier: Tensor
    threshold: float


@torch.no_grad()
def find_outliers(rows: Outputs, *, rate: float = 0.01, first_copy: Tensor | None = None,
                  device: torch.device | None = None, progress: bool = False) -> Outliers:
    """Outliers among the rows (N) of a set, at a false-alarm rate of `rate`.

    first_copy (N,) int64, as `first_of_group` gives it: rows that are not their own first copy are
    left out, and get what the first one gets. What the rows' `energy` says is not asked. Costs a
    fit and a pass; memory for FITTED rows, and as `auto_outlier_scores`. Raises ValueError for
    shapes that disagree, and for a rate outside 0 .. 0.5.
    """
    if not 0 < rate < 0.5:
        raise ValueError(f"rate: expected a share above 0 and below 0.5, got {rate!r}")
    check_outputs(rows, "")
    if first_copy is not None:
        single, at = first_copy.unique(return_inverse=True)
        if len(single) < len(first_copy):
            found = _find(_picked(rows, single), rate, device, progress=progress)
            return Outliers(found.scores[at], found.is_outlier[at], found.threshold)
    return _find(rows, rate, device, progress=progress)


def _find(rows: Outputs, rate: float, device: torch.device | None, *, progress: bool) -> Outliers:
    n = len(rows.features)
    fitted = sample_rows(torch.arange(n), FITTED, row_keys(rows.features).cpu())
    is_fitted = torch.zeros(n, dtype=torch.bool).index_fill_(0, fitted, True)
    witnesses = fit_witnesses(rows if is_fitted.all() else _picked(rows, fitted),
                              with_energy=False, device=device or rows.features.device)
    values = torch.empty(len(NAMES), n, dtype=torch.float64)
    # Class after class, so that rows of a block are compared with the same references; but what is
    # read lies near each other.
    window = torch.arange(n) // WINDOW * rows.probs.shape[1]
    order = (window + likeliest(rows.probs)).argsort(stable=True)
    for chosen in (is_fitted, ~is_fitted):
        part = order[chosen[order]]
        for block in row_blocks(len(part), "outliers", progress=progress, step=JUDGED):
            at = part[block]
            values[:, at] = (witnesses.without(torch.searchsorted(fitted, at))
                             if chosen is is_fitted else witnesses.of(rows.take(at))).cpu()
    for name in SQUARES:
        values[NAMES.index(name)].clamp_(min=0).sqrt_()
    surprise = torch.stack([_surprise(x) for x in values])
    related = NAMES.index("relation")
    others = torch.cat([surprise[:related], surprise[related + 1:]]).amax(0)
    surprise[related].clamp_(max=others)
    scores = surprise.topk(2, dim=0).values.mean(0)
    threshold = math.inf
    if n >= FEWEST:
        tail = _BentTail.of(scores.sort().values, HEAVIEST)
        threshold = tail.begin + tail.step * math.log2(0.5 / rate) ** tail.k
    return Outliers(scores.float(), scores > threshold, threshold)


def _picked(rows: Outputs, at: Tensor) -> Outputs:
    """These rows; features and probabilities are read when they are asked for."""
    large: list = [Picked(rows.features, at), Picked(rows.probs, at)]
    return Outputs(*large, *(None if field is None else field[at] for field in rows[2:]))


class _BentTail(NamedTuple):
    """q50, q75 - q50 and k of some values; step is 0 where most of them are the same."""

    begin: float
    step: float
    k: float

    @classmethod
    def of(cls, ordered: Tensor, heaviest: float) -> "_BentTail":
        """Of values (N,) in ascending order."""
        last = len(ordered) - 1
        begin, stop, bend = (float(ordered[int(at * last)]) for at in (0.5, 0.75, 0.875))
        if stop == begin:
            return cls(begin, 0.0, 1.0)
        k = math.log2((bend - begin) / (stop - begin))
        return cls(begin, stop - begin, min(heaviest, max(LIGHTEST, k)))


def _surprise(x: Tensor) -> Tensor:
    """S (N,) of the values x (N,)."""
    ordered, m = x.sort().values, len(x)
    tail = _BentTail.of(ordered, 1.0)
    counted = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)) / 2
    below = -((m - counted + 0.5) / (m + 1)).log()
    if tail.step == 0:  # where half of all values are one, whatever differs is counted
        return below
    halvings = ((x - tail.begin).clamp(min=0) / tail.step) ** (1 / tail.k)
    return torch.where(x > tail.begin, math.log(2) * (1 + halvings), below)
