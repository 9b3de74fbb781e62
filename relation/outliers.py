"""Which rows of a set do not belong to it, at a stated share of false alarms.

The scores of `ood_witnesses.py`, higher = more outlying, judge each row without itself. Two things
would hide outliers that are many: they are references of each other, and what is usual is taken
from them, too. So the scores are fitted to the core, the 80 % of the rows that are least outlying
by `auto` (`ood_auto.py`), and the tails of all rows are taken to go on as they begin. Where the
share of ordinary rows above x halves over the same distance everywhere,

    e = (q80 - q50) / log(0.5 / 0.2)         of the values of all rows, qP their P % point
    S = log 2 + (x - q50) / e                above q50, -log(share of the rows above x) below
    outlier_score = mean of the larger half of the S of a row, in nats       HIGHER = MORE OUTLYING

as what is odd in one respect is ordinary in others. Tails of outlier scores are often heavier: of
each halving from 50 to 20 % the second may take longer than the first, by a factor that is taken
to stay the same (a generalised Pareto tail; Pickands 1975 has x from the same three quantiles):

    x         = log((q80 - q68) / (q68 - q50)) / log(0.5 / 0.32)        within 0 .. 1/2
    threshold = q50 + (q80 - q50) h(rate) / h(0.2),   h(r) = ((0.5 / r)^x - 1) / x, or log(0.5 / r)

The core is taken from FITTED random rows where there are more, and the fits are to these; all rows
are judged by them. Outliers may then be up to a fifth of the rows, less where they resemble each
other. `rate` is the share of ordinary rows that are called outliers if their tails do go on like
this. Measured at 1 %, on eight real sets of 178 to 2,000 rows: see benchmarks/README.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import row_blocks
from relation.near_pairs import Picked
from relation.ood_auto import JUDGED, check_outputs, left_out_outlier_scores
from relation.ood_witnesses import REFERENCES, Outputs, fit_witnesses
from relation.sampling import sample_rows

CORE = 0.8  # of the rows, by `auto`: a fifth may be outliers
START, STOP = 0.5, 0.8  # where the tail begins, and up to where all rows are ordinary
HEAVIEST = 0.5  # x: few rows make it uncertain, and above 1/2 a tail has no variance
FITTED = 65_536  # rows that the core is taken from, random ones beyond: 64 for each 1,000 features
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
    left out, and get what the first one gets. Costs two fits to FITTED rows at most, and a pass;
    memory for these rows, and as `auto_outlier_scores`. Raises ValueError for shapes that
    disagree, and for a rate outside 0 .. 0.5.
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
    fitted = sample_rows(torch.arange(n), FITTED)
    references = min(REFERENCES, max(FEWEST_REFERENCES, COMPARED // n))
    first = left_out_outlier_scores(rows.take(fitted), references=references, device=device,
                                    progress=progress).scores
    core = fitted[first.argsort(stable=True)[:max(1, round(CORE * len(fitted)))]].sort().values
    is_core = torch.zeros(n, dtype=torch.bool).index_fill_(0, core, True)
    rest = (~is_core).nonzero()[:, 0]
    witnesses = fit_witnesses(_picked(rows, core), device=device or rows.features.device,
                              with_energy=rows.energy is not None, references=references)
    values = None
    for part, of in ((core, witnesses.without),
                     (rest, lambda at: witnesses.of(rows.take(rest[at])))):
        for block in row_blocks(len(part), "outliers", progress=progress, step=JUDGED):
            found = of(torch.arange(block.start, block.stop)).cpu()
            values = found.new_empty(len(found), n) if values is None else values
            values[:, part[block]] = found
    surprise = torch.stack([_surprise(x) for x in values])
    scores = surprise.sort(0).values[len(surprise) // 2:].mean(0)
    threshold = math.inf if n < FEWEST else _exceeded_by(scores, rate)
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


def _exceeded_by(x: Tensor, rate: float) -> float:
    """What a share `rate` of the values exceeds if the tail goes on as it begins."""
    middle = 1 - math.sqrt((1 - START) * (1 - STOP))  # both parts are of one ratio of shares
    ordered = x.sort().values
    a, b, c = (float(ordered[int(at * (len(x) - 1))]) for at in (START, middle, STOP))
    heavy = 0.0 if not a < b < c else math.log((c - b) / (b - a)) / math.log(
        (1 - START) / (1 - middle))
    heavy = min(max(heavy, 0.0), HEAVIEST)

    def distance(share: float) -> float:
        halvings = math.log((1 - START) / share)
        return halvings if heavy == 0 else math.expm1(heavy * halvings) / heavy

    return a + (c - a) * distance(rate) / distance(1 - STOP)


def _surprise(x: Tensor) -> Tensor:
    """S (N,) of the values x (N,)."""
    ordered, m = x.sort().values, len(x)
    counted = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)) / 2
    below = -((m - counted + 0.5) / (m + 1)).log()
    begin, scale = _tail(x)
    # Where half of all values are one, whatever differs is counted and not measured.
    beyond = (x - begin) / scale if scale > 0 else torch.zeros_like(x)
    return torch.where((x > begin) & (scale > 0), beyond - math.log(1 - START), below)
