"""Training rows that others are compared with: in one group, or by class.

Up to REFERENCES rows all are references, in one group. Beyond, each class is a group of its own,
of the rows with the largest keys, and a row is compared with two of them at most: its likeliest
class under the model and the one of nearest mean (`gaussian.py`). Of a thousand classes a random
sample would hold a handful of rows each, and whatever a row resembles would not be in it. A
reference stands for as many rows as its class has to each of its references, and rows of classes
that were not asked resemble a row not at all. Where classes are too many or too small to have
FEWEST references each, there is one group of REFERENCES rows.

B rows at a time, R references in G groups, D features, C classes, N training rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.gaussian import Gaussian
from relation.kernel import inverse_norm
from relation.tiles import row_slices

REFERENCES = 8192
OF_ALL_CLASSES = 32_768  # 32 of each of a thousand (64 rank outliers alike), 400 MB for D = 1,024
OF_A_CLASS = 4096  # two of these cost what one group costs; a class may have many clusters
FEWEST = 8  # of fewer a row itself, which does not count, would be missed
NEAREST = 2  # one nearest row may be a twin or itself an outlier; more look beyond small classes
NO_ROW = 3e38  # above every distance
BLOCK = 4096  # rows read at a time


class References(NamedTuple):
    """R of the training rows, group after group, in float32, and what goes beside each product."""

    rows: Tensor  # (R,) row numbers, ascending within a group; on the CPU
    starts: list[int]  # (G + 1,) where groups begin
    counts: list[int]  # (G,) training rows that a group stands for
    group_of: Tensor | None  # of each class, -1 where it has no row; None: there is one group
    plain: Tensor  # (R, D) centred, in units of the spread
    white: Tensor  # (R, D)
    probs: Tensor  # (R, C)
    plain_size: Tensor  # (R,) squared norms
    white_size: Tensor
    origin: Tensor  # (D,) from where features are zero to their centre
    to_origin: Tensor  # (R,) r . o + |o|^2 of a plain row r and the origin o
    inverse: Tensor  # (R,) of |r + o|, the norm before it was centred; 0 for a row of zeros

    def compare(self, plain: Tensor, white: Tensor, probs: Tensor, nearest: Tensor,
                itself: Tensor | None) -> list[Tensor]:
        """The distances (B,) to the NEAREST-th nearest reference, by angle, plain and white, and
        the relation, negated; float64. plain, white (B, D); probs (B, C); nearest (B,): the group
        of nearest mean; itself (B,): the rows' own numbers if they are training rows."""
        asked = self._asked(probs, nearest)
        size, width = asked.shape
        closest = plain.new_full((3, size, width, NEAREST), NO_ROW)
        related = plain.new_zeros(size, dtype=torch.float64)
        inverse = inverse_norm(plain + self.origin)
        shift = (plain @ self.origin)[:, None]
        order = asked.flatten().argsort(stable=True)
        groups, counts = asked.flatten()[order].unique_consecutive(return_counts=True)
        for group, pairs in zip(groups.tolist(), order.split(counts.tolist())):
            if group < 0:
                continue
            at, slot = pairs // width, pairs % width
            some = slice(self.starts[group], self.starts[group + 1])
            own = self._own(some, None if itself is None else itself[at.cpu()])
            products = plain[at] @ self.plain[some].T
            whitened = (white[at] @ self.white[some].T).mul_(-2).add_(self.white_size[some])
            closest[1, at, slot] = _closest(self.plain_size[some] - 2 * products, own)
            closest[2, at, slot] = _closest(whitened, own)
            # f_i . f_j from the product of what was centred
            cosines = products.add_(shift[at]).add_(self.to_origin[some]) \
                .mul_(inverse[at, None]).mul_(self.inverse[some])
            closest[0, at, slot] = _closest(self.inverse[some].sign() - 2 * cosines, own)
            kernel = cosines.clamp_(min=0).mul_(probs[at] @ self.probs[some].T)
            kernel[own] = 0
            others = plain.new_full((len(at),), some.stop - some.start, dtype=torch.float64)
            others[own[0]] -= 1
            related[at] += kernel.sum(1, dtype=torch.float64) * (
                self.counts[group] / others.clamp(min=1))
        sizes = inverse.sign(), plain.square().sum(1), white.square().sum(1)
        return [*map(_distance, closest.flatten(2), sizes), -related / sum(self.counts)]

    def _asked(self, probs: Tensor, nearest: Tensor) -> Tensor:
        """(B, 1 or 2) groups that each row is compared with; -1: no second one."""
        if self.group_of is None:
            return torch.zeros_like(nearest)[:, None]
        likely = self.group_of[probs.argmax(1)]
        return torch.stack([nearest, torch.where(likely == nearest, -1, likely)], 1)

    def _own(self, some: slice, itself: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which of the rows are references of the group, and which one each of these is."""
        device, rows = self.plain.device, self.rows[some]
        if itself is None:
            return (torch.empty(0, dtype=torch.int64, device=device),) * 2
        at = torch.searchsorted(rows, itself).clamp(max=len(rows) - 1)
        own = (rows[at] == itself).nonzero()[:, 0]
        return own.to(device), at[own].to(device)


def choose_references(features: Tensor, probs: Tensor, labels: Tensor, keys: Tensor,
                      within: Gaussian) -> References:
    """References among the training rows: features (N, D), probs (N, C), labels (N,) whose classes
    are those of `within`, keys (N,) of the rows."""
    n, device, classes = len(labels), within.centre.device, len(within.counts)
    most = min(OF_A_CLASS, OF_ALL_CLASSES // classes)
    if n > REFERENCES and min(most, n // classes) >= FEWEST:
        groups, counts = within.position.cpu()[labels], within.counts.long().cpu()
        beyond = max(0, probs.shape[1] - len(within.position))
        group_of = torch.nn.functional.pad(within.position, (0, beyond), value=-1)
    else:
        groups, counts = torch.zeros(n, dtype=torch.int64), torch.tensor([n])
        group_of, most = None, REFERENCES
    rows, starts = _largest_keys(groups, counts, keys, most)
    plain = torch.empty(len(rows), features.shape[1], device=device)
    their_probs = torch.empty(len(rows), probs.shape[1], device=device)
    for some in row_slices(len(rows), BLOCK):
        plain[some] = within.centred(features[rows[some]].to(device, torch.float64))
        their_probs[some] = probs[rows[some]]
    white, origin = within.whitened(plain), within.from_origin
    return References(rows, starts, counts.tolist(), group_of, plain, white, their_probs,
                      plain.square().sum(1), white.square().sum(1), origin,
                      plain @ origin + origin @ origin, inverse_norm(plain + origin))


def _largest_keys(groups: Tensor, counts: Tensor, keys: Tensor, most: int
                  ) -> tuple[Tensor, list[int]]:
    """The `most` rows of largest key of each group, ascending, group after group; and where groups
    begin among them."""
    order = keys.argsort(descending=True)
    order = order[groups[order].argsort(stable=True)]
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[groups[order]]
    rows = order[rank < most].sort().values
    rows = rows[groups[rows].argsort(stable=True)]
    return rows, [0, *counts.clamp(max=most).cumsum(0).tolist()]


def _closest(others: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
    """The smallest (B, NEAREST) of others (B, R), |r|^2 - 2 x . r, which are overwritten; without
    those that `own` says are the row itself, NO_ROW where there are fewer."""
    others[own] = NO_ROW
    found = []
    for _ in range(NEAREST):  # a pass for each costs less than topk
        value, at = others.min(1)
        found.append(value)
        others.scatter_(1, at[:, None], NO_ROW)
    return torch.stack(found, 1)


def _distance(closest: Tensor, size: Tensor) -> Tensor:
    """Distance (B,) float64 to the NEAREST-th of closest (B, K), of fewer the last, else 0; size
    (B,): |x|^2."""
    nearest = closest.sort(1).values[:, :NEAREST]
    last = nearest.masked_fill(nearest >= NO_ROW, -NO_ROW).amax(1)
    return torch.where(last > -NO_ROW, last + size, 0).clamp_(min=0).double().sqrt()
