"""Rows that are there twice: identical features, or a cosine above a threshold; and leakage.

Exact copies have features of the same bytes. Near copies have cosine above a threshold that the
user gives, or that the data give where they can. The distance of a row to its nearest other row,
|f_i - f_j| = sqrt(2 - 2 cosine), has two modes where there are copies: that of ordinary neighbours,
and a nearer one. What ordinary neighbours reach is known: around a row whose tenth neighbour is at
T10, in d dimensions, about 10 (r / T10)^d rows are nearer than r, and d itself follows from
log(T10 / T5), whose mean is (1/5 + 1/6 + 1/7 + 1/8 + 1/9) / d (Levina and Bickel 2004; the fifth
and tenth, as up to four copies do not move them). So

    expected(r) = N mean_i min(1, 10 (r / T10_i)^d)        over a sample of rows i
    found(r)    = rows whose nearest other row is nearer than r, counted over all rows

(T10 is measured in DENSE rows at most, around which 10 N / DENSE rows of all are then nearer) and
the threshold is the largest r at which expected(r) <= found(r) / 100: of a hundred rows that are
called copies one would be an ordinary neighbour. Where no r does that there is no second mode, and
nothing but exact copies is claimed (threshold None). Nothing below cosine 0.95 is called a copy
unasked, nor below 0.98 in more than FEW rows, of which ordinary ones come near: to compare these
would grow with the square of N. Exact copies are joined first and count once. A set in which many
rows have ten near copies or more looks like one with dense places, and gets no threshold: give one.

Groups are the connected components of all pairs above the threshold; `near_pairs.py` finds these
without comparing every pair. The pairs are decided in float64, so that no result depends on the
order of the rows or on how the work was cut. N rows, M test rows, D features, G groups. In memory:
18 bytes for each row, what `near_pairs.py` holds, and blocks; features may be memory-mapped.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from relation.components import join, roots_of
from relation.identical import digests_of, first_identical, where_among
from relation.near_pairs import NearPairs, Pairs, Picked
from relation.ordinary_neighbours import (
    EXPECTED_SHARE,
    NEIGHBOURS,
    SAMPLE,
    first_rows,
    possible_radii,
)
from relation.tiles import row_slices

HELD = 2**22  # pairs below the largest radius that are kept, 80 MiB; more are found a second time
PAIRS = 2**14  # decided at a time: 2 x 128 MiB of float64 for a thousand features


class Duplicates(NamedTuple):
    """groups (N,) int64: the number of the row's group, -1 for a row that has no copy.

    Groups are numbered by their first row. threshold: the cosine that was used, None where exact
    copies alone were joined. sizes (G,) int64 rows. is_exact (N,) bool: another row is identical.
    """

    groups: Tensor
    threshold: float | None
    sizes: Tensor
    is_exact: Tensor

    def conflicts(self, labels: Tensor) -> Tensor:
        """The numbers of the groups whose rows carry several labels (N,), ascending."""
        rows = (self.groups >= 0).nonzero()[:, 0]
        group, labels = self.groups[rows], labels.to(self.groups.device)[rows]
        first = first_of_group(self.groups)[rows]
        return group[labels != labels.new_zeros(len(self.groups)).index_copy_(
            0, rows, labels)[first]].unique()


class Leakage(NamedTuple):
    """rows (M,) int64: the training row that each test row is a copy of, -1 where it is of none.

    cosines (M,) float64, 0 where there is none; is_exact (M,) bool; threshold as in `Duplicates`.
    """

    rows: Tensor
    cosines: Tensor
    is_exact: Tensor
    threshold: float | None


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
    parent, bound = first.clone(), None
    if threshold is not None and len(single) > 1:
        rows = features if len(single) == len(features) else Picked(features, single)
        if threshold == "auto":
            own = digests[single.cpu()]
            bound, pairs = _choose(rows, None, own, own, progress=progress)
        else:
            bound = float(threshold)
            pairs = NearPairs(rows, bound=bound, progress=progress).above(bound)
        if bound is not None:
            joined = _components(pairs, rows, bound)
            place = torch.empty_like(first)
            place[single] = torch.arange(len(single), device=place.device)
            parent = single[joined[place[first]]]
    elif threshold != "auto" and threshold is not None:
        bound = float(threshold)
    groups, sizes = _numbered(parent)
    return Duplicates(groups, bound, sizes, is_exact)


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
    cosines, bound = is_exact.double(), None
    others = (~is_exact).nonzero()[:, 0]
    if threshold is not None and len(others):
        tested = Picked(test_features, others)
        if threshold == "auto":
            bound, pairs = _choose(features, tested, digests, test_digests[others.cpu()],
                                   progress=progress)
        else:
            bound = float(threshold)
            pairs = NearPairs(features, tested, bound=bound, progress=progress).above(bound)
        if bound is not None:
            rows[others], cosines[others] = _best(pairs, features, tested, bound)
    elif threshold != "auto" and threshold is not None:
        bound = float(threshold)
    return Leakage(rows, cosines, is_exact, bound)


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


def _choose(features: Tensor | Picked, tested: Picked | None, digests: np.ndarray,
            tested_digests: np.ndarray, *, progress: bool
            ) -> tuple[float | None, Iterable[Pairs]]:
    """The threshold of the module's text, None if there is none, and the pairs above it.

    digests: of `features` and of `tested`, which are the same without `tested`; samples go by
    them, so that they are the same rows in whatever order these come.
    """
    others = features if tested is None else tested
    if len(features) <= NEIGHBOURS + (tested is None):
        return None, ()
    sample = others[first_rows(tested_digests, SAMPLE)]
    radii, share = possible_radii(features, sample, digests, with_itself=tested is None)
    if len(radii) == 0:
        return None, ()
    bound = 1 - float(radii[0]) ** 2 / 2
    pairs = NearPairs(features, tested, bound=bound, progress=progress)
    nearest, held = _nearest(pairs, others, bound)
    found = torch.stack([(nearest < r).sum() for r in radii])
    claimed = (found > 0) & (share * len(others) <= EXPECTED_SHARE * found)
    if not claimed.any():
        return None, ()
    bound = 1 - float(radii[claimed][0]) ** 2 / 2
    return bound, pairs.above(bound) if held is None else [held]


def _nearest(pairs: NearPairs, others: Tensor | Picked, bound: float
             ) -> tuple[Tensor, Pairs | None]:
    """Distance (M,) float64 to the nearest row, among those above the bound; else infinite. And
    these pairs, if they are few."""
    best = torch.full((len(others),), -torch.inf, device=others.device)
    rows, values = torch.empty(2, HELD, dtype=torch.int64), torch.empty(HELD)
    count = 0
    for i, j, cosines in pairs.above(bound):
        best.scatter_reduce_(0, j, cosines, "amax")
        if pairs.target is None:
            best.scatter_reduce_(0, i, cosines, "amax")
        start, count = count, count + len(i)
        if count <= HELD:
            rows[0, start:count], rows[1, start:count], values[start:count] = i, j, cosines
    distance = (2 - 2 * best.double()).clamp(min=0).sqrt()
    if count > HELD:
        return distance, None
    i, j = rows[:, :count].to(others.device)
    return distance, (i, j, values[:count].to(others.device))


def _components(pairs: Iterable[Pairs], features: Tensor | Picked, threshold: float) -> Tensor:
    """(N,) the first row of the connected component of each row: union-find, by whole arrays."""
    parent = torch.arange(len(features), device=features.device)
    for i, j, _ in pairs:
        for at in row_slices(len(i), PAIRS):
            left, right = i[at], j[at]
            apart = roots_of(parent, left) != roots_of(parent, right)  # the rest adds nothing
            left, right = left[apart], right[apart]
            close = _cosines(features[left], features[right]) > threshold
            join(parent, left[close], right[close])
    return roots_of(parent, torch.arange(len(parent), device=parent.device))


def _best(pairs: Iterable[Pairs], features: Tensor, tested: Picked, threshold: float
          ) -> tuple[Tensor, Tensor]:
    """The training row of largest cosine above the threshold (M,), -1 if none, and the cosine."""
    cosines = torch.zeros(len(tested), dtype=torch.float64, device=features.device)
    rows = torch.full((len(tested),), -1, device=features.device)
    best = torch.full_like(cosines, -torch.inf)
    for i, j, _ in pairs:
        for at in row_slices(len(i), PAIRS):
            left, right = i[at], j[at]
            value = _cosines(features[left], tested[right])
            close = value > threshold
            left, right, value = left[close], right[close], value[close]
            before = best.clone()
            best.scatter_reduce_(0, right, value, "amax")
            rows[best > before] = len(features)  # a nearer one: forget the old
            is_best = value == best[right]
            rows.scatter_reduce_(0, right[is_best], left[is_best], "amin")
    found = rows >= 0
    cosines[found] = best[found]
    return rows, cosines


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    """(E,) of rows (E, D) and (E, D), in float64."""
    left, right = left.double(), right.double()
    size = left.norm(dim=1) * right.norm(dim=1)
    return (left * right).sum(1) / torch.where(size > 0, size, 1.0)


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
