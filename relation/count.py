"""How many labels are wrong, with an interval: hard rows are not wrong rows.

N rows, S classes that a row may belong to, the given one first; q the average of the out-of-sample
witnesses (`auto.py`), pi_c the share of rows with label c. A row's classes are ranked by q, and the
last of the S stands for all that nobody asked about: its pi is what the others leave. Rejected are
the rows whose label is not the likeliest. Sure are the half of the rows in which the likeliest is
most times as likely as the second: the label itself, always among the S, changes q but not that.
Four counts are made (on COUNTED rows at most):

    low     N e of the most probable (b, e) in  sum_i log((1 - e) softmax(b log q_i)_y + e pi_y):
            what no sharpness b of the witnesses can explain
    far     N e of the sure rows whose label is last or beyond the classes that hold half of all
            labels: a wrong label may be any, that of a hard row is among the first
    half    N times the share of rejected rows among the sure: wrong labels strike rows that are
            sure as often as others, and hardness does not
    high    the rows whose label the refit and the trusted neighbours replace, by the same one

e is the share of labels drawn anew from pi, of which 1 - mean pi_y are wrong. Features that carry
no wrong label let the witnesses be sharper, with the noise term, than they are by themselves: b of
SHARPER and more. If labels go wrong in no pattern either (l = 0, `class_noise.py`), hard rows hide
some noise from low and add to far, and the truth is between:

    wrong = (low + max(low, min(far, high))) / 2    in  low .. max(low, high)

Features that carry wrong labels draw them towards their classes, b is 1 and less, and a pattern
names near classes, l = 1: low and far see little. If few rows are hard,

    wrong = high                                    in  min(half, agreed) .. max(low, high)

agreed: the rows that leave-one-out and neighbours reject for the same class. Each bound has a
factor WIDER. `high` is claimed for a pattern, or if agreed is at least ALIKE of all that either
rejects: hard rows are rejected for one class each. So it is in features that have memorised, in
which of the surest tenth less than SURE times the share of agreed is rejected; there agreed is the
lower bound. If agreed is ALIKE and both answers are within WIDER of their geometric mean, that mean
is right whichever holds. All else may be either: min(half, high), and nothing is claimed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.sampling import sample_rows

SHARPNESS = tuple(2.0 ** (step / 4) for step in range(-2, 13))  # the b that are tried: 0.7 .. 8
STEPS = 60  # of expectation and maximisation for e, from FIRST
FIRST = 0.1
COUNTED = 2**15  # rows that are looked at: a thousandth of them is 33
SHARPER = math.sqrt(2)  # b of features that carry no wrong label is above it, of others below it
SURE = 0.2
ALIKE = 0.8
WIDER = 1.3


class Count(NamedTuple):
    """Number of wrong labels: the estimate, its interval, and whether it is claimed at all."""

    wrong: int
    low: int
    high: int
    claimed: bool


class _Ranked(NamedTuple):
    """The classes of each row (N, S), the likeliest first: is it the given one, its pi, and the sum
    of those before it; ahead (N,): how many times as likely as the second the first is."""

    given: Tensor
    share: Tensor
    before: Tensor
    ahead: Tensor


def count_wrong(q: Tensor, share: Tensor, keys: Tensor, *, replaced: int, agreed: int,
                rejected: int, class_noise: float) -> Count:
    """The count from q (N, S), the pi (N, S) of its classes, 0 where there are fewer, `high`, the
    numbers of rows that leave-one-out and neighbours reject for the same class and that either
    rejects, l. keys (N,) choose the rows that are looked at, if there are many."""
    n = len(q)
    some = sample_rows(torch.arange(n, device=q.device), COUNTED, keys)
    q, share = q[some], share[some].double()
    ranked = _ranked(q, share)
    redrawn = n * float(1 - share[:, 0].mean())
    low, b = _unexplained(q, ranked.share[ranked.given])
    low *= redrawn
    far = redrawn * _beyond(ranked)
    half, surest = (n * float((~ranked.given[:, 0])[_surest(ranked, part)].double().mean())
                    for part in (0.5, 0.1))
    visible = surest >= SURE * agreed
    alike = agreed >= ALIKE * rejected
    near = class_noise == 1 or b <= 1
    least, wrong, claimed = float(agreed), float(replaced), alike
    if visible and class_noise == 0 and b >= SHARPER:
        least, wrong, claimed = low, (low + max(low, min(far, replaced))) / 2, True
        if alike and replaced <= WIDER**2 * wrong:
            wrong = math.sqrt(wrong * replaced)
    elif visible:
        least = min(half, agreed)
        wrong = replaced if near else min(half, replaced)
        claimed = class_noise == 1 or near and alike
    least, most = min(least, replaced) / WIDER, min(n, max(low, replaced) * WIDER)
    return Count(round(min(max(wrong, least), most)), round(least), round(most), claimed)


def _ranked(q: Tensor, share: Tensor) -> _Ranked:
    order = q.argsort(dim=1, descending=True, stable=True)
    share = share.gather(1, order)
    before = share.cumsum(1) - share
    share[:, -1] = 1 - before[:, -1]
    first = q.gather(1, order[:, :2])
    return _Ranked(order == 0, share, before, first[:, 0] / first[:, -1].clamp(min=1e-12))


def _unexplained(q: Tensor, noise: Tensor) -> tuple[float, float]:
    """e, and the b that goes with it; noise (N,): the probability of the label if drawn anew."""
    logs = q.double().clamp(min=1e-12).log()
    trials = []
    for b in SHARPNESS:
        own = torch.log_softmax(b * logs, 1)[:, 0].exp()
        ratio, e = own / noise, FIRST
        for _ in range(STEPS):
            e *= float(ratio.mul(1 - e).add_(e).reciprocal_().mean())
        likelihood = float((e * noise + (1 - e) * own).clamp(min=1e-300).log().mean())
        trials.append((likelihood, b, e))
    _, b, e = max(trials)
    return e, b


def _beyond(ranked: _Ranked) -> float:
    """e of the labels beyond half of all: how many there are, over how many chance would draw."""
    far = ranked.before >= 0.5 - 1e-9  # half, but for rounding
    far[:, -1] = True
    sure = _surest(ranked, 0.5)
    return float((ranked.given & far)[sure].sum() / (ranked.share * far)[sure].sum())


def _surest(ranked: _Ranked, part: float) -> Tensor:
    """(N,) bool: the part of the rows whose likeliest class is furthest ahead, and ties."""
    n = len(ranked.ahead)
    return ranked.ahead >= ranked.ahead.kthvalue(n - math.ceil(part * n) + 1).values
