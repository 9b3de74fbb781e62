"""How many labels are wrong, with an interval: hard rows are not wrong rows.

N rows, S classes that a row may belong to, the given one first; q the average of the out-of-sample
witnesses (`auto.py`), pi_y the share of rows with the given label. Rejected are the rows whose
label is not the likeliest of q. Three counts are made:

    low     N e of the most probable (b, e) in  sum_i log((1 - e) softmax(b log q_i)_y + e pi_y):
            what no sharpness b of the witnesses can explain (on COUNTED rows at most)
    half    N times the share of rejected rows in the half of the rows with the largest max_c q:
            wrong labels strike rows that are sure as often as others, and hardness does not
    high    the rows whose label the refit and the trusted neighbours replace, by the same one

Where the noise term lets the witnesses be sharper than they are by themselves, wrong and hard rows
are told apart: b of SHARPER and more is believed. Where it does not (features that carry the wrong
labels, labels that go wrong from one class to one other, l of `class_noise.py`) wrong labels hide
in a soft softmax, and only `high` sees them:

    wrong = ((low + min(half, high)) / 2)^k  high^(1 - k)
    k     = (1 - l) min(1, max(0, log b / log SHARPER))

    between  low^k min(half, agreed)^(1 - k)  and  max(low, high), either with a factor WIDER

agreed: the rows that leave-one-out and neighbours reject for the same class. In features that have
memorised sure rows are no longer rejected: if less than SURE times the share of agreed is rejected
of the surest tenth, `high` is the estimate, above agreed. That is claimed where agreed is at least
ALIKE of all that either rejects: two witnesses that give in at different times then still see the
same wrong labels. Otherwise nothing is claimed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relation.sampling import sample_rows

SHARPNESS = tuple(2.0 ** (step / 4) for step in range(-2, 13))  # the b that are tried: 0.7 .. 8
STEPS = 60  # of expectation and maximisation for e, from FIRST
FIRST = 0.1
COUNTED = 2**15  # rows that `low` is found on, at random: a thousandth of them is 33
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


def count_wrong(q: Tensor, share: Tensor, *, replaced: int, agreed: int, rejected: int,
                class_noise: float) -> Count:
    """The count from q (N, S), the share (N,) of each row's given label, `high`, the numbers of
    rows that leave-one-out and neighbours reject for the same class and that either rejects, l."""
    n = len(q)
    some = sample_rows(torch.arange(n, device=q.device), COUNTED)
    low, b = _unexplained(q[some], share[some])
    low *= n / len(some)
    half, surest = (n * _rejected(q, part) for part in (0.5, 0.1))
    k = (1 - class_noise) * min(1.0, max(0.0, math.log(b) / math.log(SHARPER)))
    visible = surest >= SURE * agreed
    least, wrong = float(agreed), float(replaced)
    if visible:
        least = _between(low, min(half, agreed), k)
        wrong = _between((low + min(half, replaced)) / 2, replaced, k)
    least, most = min(least, replaced) / WIDER, min(n, max(low, replaced) * WIDER)
    return Count(round(min(max(wrong, least), most)), round(least), round(most),
                 visible or agreed >= ALIKE * rejected)


def _between(first: float, second: float, k: float) -> float:
    """first^k second^(1 - k). Half a row stands for none, as 0 would forget the other count."""
    return max(first, 0.5) ** k * max(second, 0.5) ** (1 - k)


def _unexplained(q: Tensor, share: Tensor) -> tuple[float, float]:
    """`low`, and the b that goes with it."""
    logs = q.double().clamp(min=1e-12).log()
    trials = []
    for b in SHARPNESS:
        own = torch.log_softmax(b * logs, 1)[:, 0].exp()
        ratio, e = own / share, FIRST
        for _ in range(STEPS):
            e *= float(ratio.mul(1 - e).add_(e).reciprocal_().mean())
        likelihood = float((e * share + (1 - e) * own).clamp(min=1e-300).log().mean())
        trials.append((likelihood, b, e))
    _, b, e = max(trials)
    # Of labels drawn anew by pi some are right by chance.
    return len(q) * e * float(1 - share.mean()), b


def _rejected(q: Tensor, part: float) -> float:
    """Share of rejected rows in the part of the rows that q (N, S) is surest about."""
    sure = q.amax(1)
    least = sure.kthvalue(len(q) - math.ceil(part * len(q)) + 1).values
    return float((q.argmax(1) != 0)[sure >= least].double().mean())
