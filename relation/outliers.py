"""Which rows of a set do not belong to it, at a stated share of false alarms.

The scores of `ood_witnesses.py` judge each row without itself, in the units of a distance: of
Mahalanobis and of the model's doubt, -log max_c p_c, the roots are taken (both are squares where
rows are Gaussian). They are fitted to all rows, and the tail of each is taken to go on as it
begins: from the median up to the upper quartile, which outliers hardly move, the share of rows
above x halves over the same distance everywhere,

    e = (q75 - q50) / log 2                         of the values of all rows, qP their P % point
    S = log 2 + (x - q50) / e                       above q50, -log(share of the rows above x) below
    outlier_score = ((1 + S_1) (1 + S_2) (1 + S_3))^(1/3) - 1   HIGHER = MORE OUTLYING

with S_1, S_2 and S_3 the larger half of a row: what is odd in one respect is ordinary in others,
and one or two may shout, as rows of large norm are far from all others. The tail of these scores is
taken to go on in the same way, so that a share `rate` of ordinary rows is above

    threshold = q50 + (q75 - q50) log(0.5 / rate) / log 2

Many outliers are near each other, and move q50 and q75: where they are more than a tenth of the
rows some are missed. All is fitted to FITTED rows where there are more, and judges all rows.
Measured at 1 %, on eight real sets of 178 to 2,000 rows: see benchmarks/README.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import row_blocks
from relation.near_pairs import Picked
from relation.ood_auto import JUDGED, check_outputs
from relation.ood_witnesses import NAMES, REFERENCES, Outputs, fit_witnesses
from relation.sampling import row_keys, sample_rows

SQUARES = ("energy", "Mahalanobis")  # the first one is -log max_c p_c without the logits
START, STOP = 0.5, 0.75  # where the tail begins, and up to where all rows are ordinary
FITTED = 65_536  # rows of the fit: 64 for each of 1,000 features
COMPARED = 2**26  # pairs of a row and a reference: fewer references beyond 8,192 rows,
FEWEST_REFERENCES = 1024  # but not fewer than these
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
    if not 0 < rate < START:
        raise ValueError(f"rate: expected a share above 0 and below {START:g}, got {rate!r}")
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
    rest = (~is_fitted).nonzero()[:, 0]
    witnesses = fit_witnesses(
        rows if len(rest) == 0 else _picked(rows, fitted), with_energy=False,
        device=device or rows.features.device,
        references=min(REFERENCES, max(FEWEST_REFERENCES, COMPARED // n)))
    values = torch.empty(len(NAMES), n, dtype=torch.float64)
    for part, of in ((fitted, witnesses.without),
                     (rest, lambda at: witnesses.of(rows.take(rest[at])))):
        for block in row_blocks(len(part), "outliers", progress=progress, step=JUDGED):
            values[:, part[block]] = of(torch.arange(block.start, block.stop)).cpu()
    for name in SQUARES:
        values[NAMES.index(name)].clamp_(min=0).sqrt_()
    surprise = torch.stack([_surprise(x) for x in values])
    scores = surprise.topk(len(surprise) // 2, dim=0).values.log1p().mean(0).expm1()
    begin, scale = _tail(scores)
    threshold = math.inf if n < FEWEST else begin + scale * math.log((1 - START) / rate)
    return Outliers(scores.float(), scores > threshold, threshold)


def _picked(rows: Outputs, at: Tensor) -> Outputs:
    """These rows; features and probabilities are read when they are asked for."""
    large: list = [Picked(rows.features, at), Picked(rows.probs, at)]
    return Outputs(*large, *(None if field is None else field[at] for field in rows[2:]))


def _tail(x: Tensor) -> tuple[float, float]:
    """q50 and e; e is 0 where most values are the same."""
    ordered = x.sort().values
    begin, stop = (float(ordered[int(at * (len(x) - 1))]) for at in (START, STOP))
    return begin, (stop - begin) / math.log((1 - START) / (1 - STOP))


def _surprise(x: Tensor) -> Tensor:
    """S (N,) of the values x (N,)."""
    ordered, m = x.sort().values, len(x)
    counted = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)) / 2
    below = -((m - counted + 0.5) / (m + 1)).log()
    begin, scale = _tail(x)
    # Where half of all values are one, whatever differs is counted and not measured.
    beyond = (x - begin) / scale if scale > 0 else torch.zeros_like(x)
    return torch.where((x > begin) & (scale > 0), beyond - math.log(1 - START), below)
