"""Rows that are there twice: identical features, or nearly so; and leakage.

Exact copies have features of the same bytes. Near copies have a cosine above a threshold that the
user gives, or that the data give where they can: unasked, rows are near copies, too, whose distance
is below a radius that the data give in the same way, since what makes the copy of a table's row
differ does not grow with its norm. The distance of a row to its nearest other row, |f_i - f_j|, or
sqrt(2 - 2 cosine) between rows of unit norm, has two modes where there are copies: that of ordinary
neighbours, and a nearer one. What ordinary neighbours reach is known: around a row whose tenth
neighbour is at T10, in d dimensions, about 10 (r / T10)^d rows are nearer than r. The d of a row
is told by s = sum_k k log(T_k+1 / T_k), k = 5 .. 9, five exponential numbers of rate d (Levina and
Bickel 2004; from the fifth on, as up to four copies do not move them), and by that of other rows:
d ~ Gamma(10, b), where b / 9, the mean of 1 / d, is that of s / 5. Rows of few dimensions, which
differ in few columns of a table, come much nearer than others. So, over a sample of rows i,

    expected(r) = N mean_i min(1, 10 (1 + log(T10_i / r) / (b + s_i))^-(10 + 5))
    found(r)    = rows whose nearest other row is nearer than r, counted over all rows

(T10 is measured in DENSE rows at most, around which 10 N / DENSE rows of all are then nearer) and
the radius is the r at which found(r) - expected(r), the number of copies, is largest. A second mode
is claimed where expected(r) <= found(r) / 3, and where chance brings as many pairs together, at any
r, in no more than one of a hundred sets. Else nothing but exact copies is claimed (threshold and
radius None). On eight real sets with nothing planted expected was 0.96 of found or more at every r.
Nothing below cosine 0.95 is called a copy unasked, nor below 0.98 in more than FEW rows, of which
ordinary ones come near: to compare these would grow with the square of N. Exact copies are joined
first and count once. A set in which many rows have ten near copies or more looks like one with
dense places, and gets neither: give a threshold.

Groups are the connected components of all pairs of copies; `near_pairs.py` finds these without
comparing every pair. The pairs are decided in float64, so that no result depends on the order of
the rows or on how the work was cut. N rows, M test rows, D features, G groups. In memory: 42 bytes
for each row, what `near_pairs.py` holds, and blocks; features may be memory-mapped.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from relation.components import join, roots_of
from relation.copy_rule import Rule, find_rule, given_rule
from relation.identical import digests_of, first_identical, where_among
from relation.near_pairs import Pairs, Picked
from relation.tiles import row_slices

PAIRS = 2**14  # decided at a time: 2 x 128 MiB of float64 for a thousand features


class Duplicates(NamedTuple):
    """groups (N,) int64: the number of the row's group, -1 for a row that has no copy.

    Groups are numbered by their first row. Near copies have a cosine above the threshold, or a
    distance below the radius; None: there is none. sizes (G,) int64 rows. is_exact (N,) bool:
    another row is identical.
    """

    groups: Tensor
    threshold: float | None
    sizes: Tensor
    is_exact: Tensor
    radius: float | None = None

    def conflicts(self, labels: Tensor) -> Tensor:
        """The numbers of the groups whose rows carry several labels (N,), ascending."""
        rows = (self.groups >= 0).nonzero()[:, 0]
        group, labels = self.groups[rows], labels.to(self.groups.device)[rows]
        first = first_of_group(self.groups)[rows]
        return group[labels != labels.new_zeros(len(self.groups)).index_copy_(
            0, rows, labels)[first]].unique()


class Leakage(NamedTuple):
    """rows (M,) int64: the training row that each test row is a copy of, -1 where it is of none.

    cosines (M,) float64, 0 where there is none; is_exact (M,) bool; threshold and radius as in
    `Duplicates`.
    """

    rows: Tensor
    cosines: Tensor
    is_exact: Tensor
    threshold: float | None
    radius: float | None = None


@torch.no_grad()
def find_duplicates(features: Tensor, *, threshold: float | str | None = "auto",
                    contents: Tensor | None = None, progress: bool = False) -> Duplicates:
    """Group the copies among the rows of features (N, D), as they come from the model.

    threshold: near copies have a larger cosine, -1 <= threshold < 1; "auto" lets the data choose
    (see the module), None joins exact copies alone. contents (N,) int64, where known: rows of one
    number are exact copies, too, such as files of the same bytes. Raises ValueError for anything
    else, and for features that are not floats of shape (N, D).
    """
    _check(features, "features", threshold)
    digests = digests_of(features)
    first = first_identical(digests).to(features.device)
    if contents is not None:
        if contents.shape != first.shape:
            raise ValueError(f"contents: expected shape ({len(first)},), "
                             f"got {tuple(contents.shape)}")
        every = torch.arange(len(first), device=first.device)
        join(first, every, first_of_group(contents.to(first.device)))
        first = roots_of(first, every)
    single = first.unique()
    is_exact = first.bincount(minlength=len(first))[first] > 1
    parent, rule = first.clone(), given_rule(threshold)
    if threshold is not None and len(single) > 1:
        rows = features if len(single) == len(features) else Picked(features, single)
        own = digests[single.cpu()]
        rule, pairs = find_rule(threshold, rows, None, own, own, progress=progress)
        joined = _components(pairs, rows, rule)
        place = torch.empty_like(first)
        place[single] = torch.arange(len(single), device=place.device)
        parent = single[joined[place[first]]]
    groups, sizes = _numbered(parent)
    return Duplicates(groups, rule.threshold, sizes, is_exact, rule.radius)


@torch.no_grad()
def find_leakage(features: Tensor, test_features: Tensor, *, threshold: float | str | None = "auto",
                 progress: bool = False) -> Leakage:
    """For each of the test rows (M, D) the training row (N, D) that it is a copy of, if any.

    threshold as in `find_duplicates`; the expected neighbours are those of test rows in the
    training set. Of several copies the one of largest cosine, then the first; an exact copy goes
    before any other. Raises ValueError as there, and where the widths differ.
    """
    _check(features, "features", threshold)
    _check(test_features, "test_features", threshold)
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, "
                         f"test_features {test_features.shape[1]}")
    if features.dtype != test_features.dtype:
        raise ValueError(f"expected features of one kind, got {features.dtype} and "
                         f"test_features of {test_features.dtype}")
    test_digests = digests_of(test_features)
    digests = digests_of(features)
    rows = where_among(digests, test_digests).to(features.device)
    is_exact = rows >= 0
    cosines, rule = is_exact.double(), given_rule(threshold)
    others = (~is_exact).nonzero()[:, 0]
    if threshold is not None and len(others):
        tested = Picked(test_features, others)
        rule, pairs = find_rule(threshold, features, tested, digests, test_digests[others.cpu()],
                                progress=progress)
        rows[others], cosines[others] = _best(pairs, features, tested, rule)
    return Leakage(rows, cosines, is_exact, rule.threshold, rule.radius)


def first_of_group(groups: Tensor, labels: Tensor | None = None) -> Tensor:
    """(N,) int64: the first row of each row's group (N,), itself where it has none (-1).

    A copy that carries the same wrong label would vouch for it. So let the rows that are their own
    first ones vote, `first == arange(N)`, and give the others their scores, `scores[first]`. With
    labels (N,) the first row of the group that carries the same label: copies with different labels
    then contradict each other, and each label counts once.
    """
    n = len(groups)
    rows = torch.arange(n, device=groups.device)
    key = torch.where(groups >= 0, groups, n + rows)
    if labels is not None:
        number = labels.to(groups.device).unique(return_inverse=True)[1]
        key = key * (int(number.max()) + 1 if n else 1) + number
    key = key.unique(return_inverse=True)[1]
    return torch.full((n,), n, device=groups.device).scatter_reduce_(0, key, rows, "amin")[key]


def _components(pairs: Iterable[Pairs], features: Tensor | Picked, rule: Rule) -> Tensor:
    """(N,) the first row of the connected component of each row: union-find, by whole arrays."""
    parent = torch.arange(len(features), device=features.device)
    for i, j, _ in pairs:
        for at in row_slices(len(i), PAIRS):
            left, right = i[at], j[at]
            apart = roots_of(parent, left) != roots_of(parent, right)  # the rest adds nothing
            left, right = left[apart], right[apart]
            close = rule.cosines(features[left], features[right]) > -math.inf
            join(parent, left[close], right[close])
    return roots_of(parent, torch.arange(len(parent), device=parent.device))


def _best(pairs: Iterable[Pairs], features: Tensor, tested: Picked, rule: Rule
          ) -> tuple[Tensor, Tensor]:
    """The training row of largest cosine among the copies (M,), -1 if none, and the cosine."""
    cosines = torch.zeros(len(tested), dtype=torch.float64, device=features.device)
    rows = torch.full((len(tested),), -1, device=features.device)
    best = torch.full_like(cosines, -torch.inf)
    for i, j, _ in pairs:
        for at in row_slices(len(i), PAIRS):
            left, right = i[at], j[at]
            value = rule.cosines(features[left], tested[right])
            close = value > -math.inf
            left, right, value = left[close], right[close], value[close]
            before = best.clone()
            best.scatter_reduce_(0, right, value, "amax")
            rows[best > before] = len(features)  # a nearer one: forget the old
            is_best = value == best[right]
            rows.scatter_reduce_(0, right[is_best], left[is_best], "amin")
    found = rows >= 0
    cosines[found] = best[found]
    return rows, cosines


def _numbered(first: Tensor) -> tuple[Tensor, Tensor]:
    """groups (N,) and sizes (G,) of rows with the first row of their component (N,)."""
    several = first.bincount(minlength=len(first))
    heads = (several > 1).nonzero()[:, 0]
    number = torch.full_like(first, -1)
    number[heads] = torch.arange(len(heads), device=first.device)
    return number[first], several[heads]


def _check(features: Tensor, name: str, threshold: float | str | None) -> None:
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(f"{name}: expected floats of shape (N, D), "
                         f"got {features.dtype} {tuple(features.shape)}")
    if len(features) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    if threshold is None or threshold == "auto":
        return
    if isinstance(threshold, str) or not -1 <= threshold < 1:
        raise ValueError(f"threshold: expected a cosine from -1 to below 1, 'auto' or None, "
                         f"got {threshold!r}")
