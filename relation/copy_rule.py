"""Which pairs of rows are near copies, and where to look for them: the rule of `duplicates.py`.

N source rows, M target rows, D features, E pairs. In memory: 16 bytes a row, what `near_pairs.py`
holds, and blocks.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from relation.near_pairs import NearPairs, Pairs, Picked
from relation.ordinary_neighbours import NEIGHBOURS, SAMPLE, first_rows, ordinary_neighbours

HELD = 2**22  # pairs below the largest radius that are kept, 80 MiB; more are found a second time


class Rule(NamedTuple):
    """Which pairs are copies: cosine above the threshold, or distance below the radius. None: no
    such pair. Pairs of no larger cosine than `bound` are not looked at."""

    threshold: float | None
    radius: float | None
    bound: float

    @property
    def says_nothing(self) -> bool:
        return self.threshold is None and self.radius is None

    def cosines(self, left: Tensor, right: Tensor) -> Tensor:
        """(E,) of rows (E, D) and (E, D), in float64; -inf where these are no copies."""
        left, right = left.double(), right.double()
        size = left.norm(dim=1) * right.norm(dim=1)
        cosines = (left * right).sum(1) / torch.where(size > 0, size, 1.0)
        is_copy = torch.zeros_like(cosines, dtype=torch.bool)
        if self.threshold is not None:
            is_copy |= cosines > self.threshold
        if self.radius is not None:
            is_copy |= (cosines > self.bound) & ((left - right).norm(dim=1) < self.radius)
        return torch.where(is_copy, cosines, -math.inf)


def given_rule(threshold: float | str | None) -> Rule:
    """The rule of the user's threshold."""
    if threshold is None or threshold == "auto":
        return Rule(None, None, 1.0)
    return Rule(float(threshold), None, float(threshold))


def find_rule(threshold: float | str, features: Tensor | Picked, tested: Picked | None,
              digests: np.ndarray, tested_digests: np.ndarray, *, progress: bool
              ) -> tuple[Rule, Iterable[Pairs]]:
    """The rule of the user's threshold, or if it is "auto" that of the module's text; and the pairs
    that it may hold for.

    digests: of `features` and of `tested`, which are the same without `tested`; samples go by
    them, so that they are the same rows in whatever order these come.
    """
    if threshold != "auto":
        rule = given_rule(threshold)
        return rule, NearPairs(features, tested, bound=rule.bound, progress=progress).above(
            rule.bound)
    others = features if tested is None else tested
    if len(features) <= NEIGHBOURS + (tested is None):
        return given_rule(None), ()
    sample = others[first_rows(tested_digests, SAMPLE)]
    unit, plain, bound = ordinary_neighbours(features, sample, digests,
                                             with_itself=tested is None)
    widest = _rule(unit.largest, plain.largest, bound)
    if widest.says_nothing:
        return widest, ()
    near = NearPairs(features, tested, bound=bound, progress=progress)
    nearest, held = _nearest(_possible(near, near.above(bound), widest), near.norms,
                             within=tested is None)
    rule = _rule(unit.radius(nearest[0]), plain.radius(nearest[1]), bound)
    if rule.says_nothing:
        return rule, ()
    return rule, _possible(near, near.above(bound) if held is None else [held], rule)


def _rule(unit_radius: float | None, radius: float | None, bound: float) -> Rule:
    threshold = None if unit_radius is None else max(bound, 1 - unit_radius ** 2 / 2)
    return Rule(threshold, radius, bound)


def _squared(pairs: Pairs, norms: tuple[Tensor, Tensor]) -> Tensor:
    """Squared distances (E,) float64 of pairs, of the digits that their cosines have."""
    left, right = norms[0][pairs[0]], norms[1][pairs[1]]
    return (left - right).square() + 2 * left * right * (1 - pairs[2].double()).clamp(min=0)


def _possible(near: NearPairs, pairs: Iterable[Pairs], rule: Rule) -> Iterator[Pairs]:
    """Of these pairs those for which the rule holds, or may hold but for rounding."""
    norms = near.norms
    for i, j, cosines in pairs:
        some = torch.zeros_like(cosines, dtype=torch.bool)
        if rule.threshold is not None:
            some |= cosines > rule.threshold - near.margin
        if rule.radius is not None:
            slack = 2 * near.margin * norms[0][i] * norms[1][j]
            some |= _squared((i, j, cosines), norms) < rule.radius ** 2 + slack
        yield i[some], j[some], cosines[some]


def _nearest(pairs: Iterable[Pairs], norms: tuple[Tensor, Tensor], *, within: bool
             ) -> tuple[Tensor, Pairs | None]:
    """Distance (2, M) float64 of each row to the nearest one in these pairs, else infinite: of unit
    norm, and as they are; and the pairs, if they are few. `within`: source and target rows are the
    same."""
    best = norms[1].new_full((2, len(norms[1])), math.inf)
    rows, values = torch.empty(2, HELD, dtype=torch.int64), torch.empty(HELD)
    count = 0
    for i, j, cosines in pairs:
        for at, squared in enumerate(((2 - 2 * cosines.double()).clamp(min=0),
                                      _squared((i, j, cosines), norms))):
            best[at].scatter_reduce_(0, j, squared, "amin")
            if within:
                best[at].scatter_reduce_(0, i, squared, "amin")
        start, count = count, count + len(i)
        if count <= HELD:
            rows[0, start:count], rows[1, start:count], values[start:count] = i, j, cosines
    if count > HELD:
        return best.sqrt(), None
    i, j = rows[:, :count].to(best.device)
    return best.sqrt(), (i, j, values[:count].to(best.device))
