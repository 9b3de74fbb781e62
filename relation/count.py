"""How many labels are wrong, with an interval: hard rows are not wrong rows.

N rows, S classes that a row may belong to, the given one first; q the average of the out-of-sample
witnesses (`auto.py`), pi_y the share of rows with the given label. Two counts are made:

    low     N e of the most probable (b, e) in  sum_i log((1 - e) softmax(b log q_i)_y + e pi_y):
            what no sharpness b of the witnesses can explain
    high    the rows whose label the refit and the trusted neighbours replace, by the same one

Where the noise term lets the witnesses be sharper than they are by themselves (b well above 1),
wrong and hard rows are told apart, and `low` is right. Where it does not (features that carry the
wrong labels, or classes mistaken for one and the same other class), wrong labels hide in a soft
softmax and only `high` sees them. The estimate is k low + (1 - k) high with k = log2 b within 0 and
1, so that a witness twice as sharp is believed, the interval runs from the smaller to the larger.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SHARPNESS = tuple(2.0 ** (step / 4) for step in range(-2, 13))  # the b that are tried: 0.7 .. 8
STEPS = 60  # of expectation and maximisation for e, from FIRST
FIRST = 0.1


class Count(NamedTuple):
    """Number of wrong labels: the estimate, and the interval that it comes from."""

    wrong: int
    low: int
    high: int


def count_wrong(q: Tensor, share: Tensor, replaced: int) -> Count:
    """The count from q (N, S), the share (N,) of each row's given label, and `high`."""
    logs = q.double().clamp(min=1e-12).log()
    trials = []
    for b in SHARPNESS:
        own = torch.log_softmax(b * logs, 1)[:, 0].exp()
        e = FIRST
        for _ in range(STEPS):
            noise = e * share
            e = float((noise / (noise + (1 - e) * own).clamp(min=1e-300)).mean())
        likelihood = float((e * share + (1 - e) * own).clamp(min=1e-300).log().mean())
        trials.append((likelihood, b, e))
    _, b, e = max(trials)
    # Of labels drawn anew by pi some are right by chance.
    low = len(q) * e * float(1 - share.mean())
    certain = min(1.0, max(0.0, float(torch.tensor(b).log2())))
    wrong = certain * low + (1 - certain) * replaced
    return Count(round(wrong), round(min(low, replaced)), round(max(low, replaced)))
