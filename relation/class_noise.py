"""Labels that go wrong from one class to another, as `fox` to `dog`, and a score that allows it.

N rows, C classes, S classes that a row may belong to, the given one first; q (N, S) the average of
the witnesses (`auto.py`). Where most labels of a kind go wrong the same way, all that learn from
them believe it a little, and a wrong label has a larger q_y than one that is merely hard. With c(i)
the likeliest class of row i, over the half of each class's rows with the largest q:

    n_cy = rows of likeliest class c and given label y       r = share of them with c != y
    R_cy = (n_cy + PRIOR r / (C - 1)) / (n_c + PRIOR) / (r / (C - 1))     c to y, beyond chance
    e    = (sum over c of  max n_cy - second largest n_cy - 1,  y != c) / (sum of all n)
    l    = min(1, max(0, (e - HARD) / (CLEAR - HARD)))                    is there a pattern?
    auto = o / (o + q_y)     o = sum over c != y of  q_c (1 - l + l R_cy)      HIGHER = MORE SUSPECT

l = 0 leaves 1 - q_y. Hard rows are mistaken for several classes and seldom where a class is sure,
so that the lead of the first mistake over the second tells a pattern from hardness; the 1 is what
chance gives it where there are few rows. Two classes have no second mistake: l = 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

PRIOR = 10  # rows of chance beside those that are counted: a class of few rows has no pattern
# e of hard rows is below .04, that of 20 % wrong labels above .1, where the features let it be seen
HARD, CLEAR = 0.05, 0.15


class ClassNoise(NamedTuple):
    """pairs (P,): c C + y of the pairs that were met, in order; lift (P,): R of those, float64;
    unmet (C,): R of the other pairs of class c; weight: l."""

    pairs: Tensor
    lift: Tensor
    unmet: Tensor
    weight: float


def find_class_noise(q: Tensor, slots: Tensor, labels: Tensor, classes: int) -> ClassNoise:
    """The pattern in q (N, S) of the classes slots (N, S), labels (N,)."""
    likeliest = slots.gather(1, q.argmax(1, keepdim=True))[:, 0]
    sure = _surest_half(likeliest, q.amax(1), classes)
    pairs, counts = (likeliest[sure] * classes + labels[sure]).unique(return_counts=True)
    of_class, wrong = pairs // classes, pairs // classes != pairs % classes
    total = counts.new_zeros(classes).index_add(0, of_class, counts).double()
    chance = float(counts[wrong].sum() / counts.sum()) / max(1, classes - 1)
    weight = 0.0
    if classes > 2 and chance > 0:
        lead = float(_leads(of_class[wrong], counts[wrong]) / counts.sum())
        weight = min(1.0, max(0.0, (lead - HARD) / (CLEAR - HARD)))
    chance = chance or 1.0  # nothing is wrong: whatever it is divided by, the weight is 0
    lift = (counts + PRIOR * chance) / (total[of_class] + PRIOR) / chance
    return ClassNoise(pairs, lift, PRIOR / (total + PRIOR), weight)


def wrong_probs(q: Tensor, slots: Tensor, labels: Tensor, noise: ClassNoise) -> Tensor:
    """(N,) float64: the probability that the given label is wrong."""
    q = q.double()
    if noise.weight == 0:
        return (1 - q[:, 0]).clamp(0, 1)
    asked = slots[:, 1:].clamp(min=0)  # where there is no class q is 0
    pairs = asked * len(noise.unmet) + labels[:, None]
    at = torch.searchsorted(noise.pairs, pairs).clamp(max=len(noise.pairs) - 1)
    lift = torch.where(noise.pairs[at] == pairs, noise.lift[at], noise.unmet[asked])
    # What the slots leave is spread over the other classes, which nobody asked about.
    odds = (1 - q.sum(1)).clamp(min=0) + (q[:, 1:] * (1 + noise.weight * (lift - 1))).sum(1)
    return odds / (odds + q[:, 0]).clamp(min=1e-300)


def _surest_half(likeliest: Tensor, confidence: Tensor, classes: int) -> Tensor:
    """(N,) bool: the rows with the largest confidence of each class, half of them and ties."""
    order = confidence.argsort()
    order = order[likeliest[order].argsort(stable=True)]
    counts = torch.bincount(likeliest, minlength=classes)
    first = counts.cumsum(0) - (counts + 1) // 2
    least = confidence[order[first.clamp(max=len(order) - 1)]]
    return confidence >= least[likeliest]


def _leads(of_class: Tensor, counts: Tensor) -> int:
    """Sum over classes of how far the largest count is ahead of the second, but for one row."""
    order = counts.argsort(descending=True)
    order = order[of_class[order].argsort(stable=True)]
    of_class, counts = of_class[order], counts[order]
    first = torch.ones_like(of_class, dtype=torch.bool)
    first[1:] = of_class[1:] != of_class[:-1]
    second = torch.zeros_like(counts)
    second[:-1] = torch.where(first[1:], 0, counts[1:])
    return int((counts - second - 1)[first].clamp(min=0).sum())
