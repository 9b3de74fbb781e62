"""How near to a row its ordinary neighbours come: the formula is in `duplicates.py`."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from relation.kernel import inverse_norm
from relation.near_pairs import Picked
from relation.tiles import row_slices

LEAST_COSINE, LEAST_OF_MANY = 0.95, 0.98  # of a copy that is claimed unasked,
FEW = 32_768  # up to this many rows, and beyond
DENSE = 131_072  # rows that T5 .. T10 are measured in: 3 s for a thousand features
SAMPLE = 1024  # rows that T5 .. T10 and d are estimated on
NEIGHBOURS, HALF_WAY = 10, 5  # T10 and T5
EXPECTED_SHARE = 1 / 3  # of ordinary neighbours among the claimed rows, at most
SHARE_OF_MANY = 0.01  # of all rows, beyond FEW: there would be more pairs to look at
CHANCE = 0.01  # that at any distance as many ordinary pairs as were found are nearer
STEPS_PER_OCTAVE = 8  # distances are tried at factors of 2^(1/8)
OCTAVES = 12  # below the median T10, or
RESOLVED = 1e-3  # down to this share of the largest norm: nearer, cosines in float32 are the same
ALIKE = 10  # a: d differs by a third, as in most of eight real sets: fits gave 1.7 to 18, or more
BLOCK = 2**14  # rows at a time
TINY = 1e-12  # in place of no distance at all


class Ordinary(NamedTuple):
    """Distances (K,) that may be the radius, descending, and the share (K,) of rows that have a
    nearer ordinary neighbour; whether near rows come in pairs, as they do within one set."""

    radii: Tensor
    share: Tensor
    in_pairs: bool

    @property
    def largest(self) -> float | None:
        return float(self.radii[0]) if len(self.radii) else None

    def radius(self, nearest: Tensor) -> float | None:
        """That of the module's text, for rows whose nearest ones are as far as `nearest` (M,)."""
        if len(self.radii) == 0:
            return None
        found = torch.stack([(nearest < r).sum() for r in self.radii])
        expected = self.share * len(nearest)
        # A Poisson number of mean m is k or more with probability gammainc(k, m).
        size = 2 if self.in_pairs else 1
        chance = torch.special.gammainc((found / size).ceil().clamp(min=1).double(),
                                        expected / size)
        claimed = (found > 0) & (expected <= EXPECTED_SHARE * found) & (
            chance <= CHANCE / len(self.radii))
        if not claimed.any():
            return None
        copies = (found - expected).masked_fill(~claimed, -math.inf)
        return float(self.radii[copies.argmax()])


def ordinary_neighbours(features: Tensor | Picked, sample: Tensor, digests: np.ndarray,
                        *, with_itself: bool) -> tuple[Ordinary, Ordinary, float]:
    """How near ordinary neighbours come, of unit norm and as they are; and a cosine below which no
    pair need be looked at.

    sample (S, D): of the rows to judge, `with_itself` if these are the features (N, D), whose
    digests choose those to measure in.
    """
    n = len(features)
    dense = features if n <= DENSE else Picked(features, first_rows(digests, DENSE))
    norms = sample.double().norm(dim=1)
    norms = norms[norms > 0] if norms.any() else norms.new_ones(1)
    size = float(norms.max())
    unit, plain = (_possible(distances, n, len(dense), RESOLVED * of, in_pairs=with_itself)
                   for distances, of in zip(_to_neighbours(sample, dense, size, with_itself),
                                            (1.0, size)))
    # Of many rows the usual ones are looked at as far as the largest radius, of few rows all those
    # whose norms are like the sample's.
    norm = float(norms.min() if n <= FEW else norms.median())
    angles = [each.largest / of for each, of in ((unit, 1.0), (plain, norm)) if each.largest]
    least = LEAST_COSINE if n <= FEW else LEAST_OF_MANY
    return unit, plain, max(least, 1 - max(angles, default=0.0) ** 2 / 2)


def first_rows(digests: np.ndarray, most: int) -> Tensor:
    """(K,) ascending: the rows of the `most` smallest digests."""
    return torch.from_numpy(np.argsort(digests)[:most]).sort().values


def _possible(distances: Tensor, n: int, dense: int, resolved: float, *, in_pairs: bool
              ) -> Ordinary:
    """From the distances (S, NEIGHBOURS) to the nearest of `dense` rows out of n."""
    logs = distances[:, HALF_WAY - 1:].clamp(min=TINY).log()
    at = torch.arange(HALF_WAY, NEIGHBOURS, device=logs.device)
    told = (at * logs.diff(dim=1)).sum(1).clamp(min=TINY)  # s
    rate = told + (ALIKE - 1) * told.mean() / len(at)  # b + s
    tenth = logs[:, -1].exp()
    if not rate.isfinite().all():  # rows that are not finite have no neighbours
        return Ordinary(tenth[:0], tenth[:0], in_pairs)
    # Powers of two, so that no rounding of T10 moves them.
    top = math.floor(STEPS_PER_OCTAVE * math.log2(float(tenth.median())))
    steps = torch.arange(STEPS_PER_OCTAVE * OCTAVES, device=tenth.device, dtype=torch.float64)
    radii = 2 ** ((top - steps) / STEPS_PER_OCTAVE)
    within = NEIGHBOURS * n / dense  # rows within T10
    share = torch.stack([
        (within * (1 + (tenth / r).log().clamp(min=0) / rate) ** -(ALIKE + len(at))
         ).clamp(max=1).mean() for r in radii])
    most = EXPECTED_SHARE if n <= FEW else SHARE_OF_MANY
    possible = (share <= most) & (radii >= resolved)
    return Ordinary(radii[possible], share[possible], in_pairs)


def _to_neighbours(sample: Tensor, features: Tensor | Picked, largest: float, with_itself: bool
                   ) -> tuple[Tensor, Tensor]:
    """Distances (S, NEIGHBOURS) float64 of the sample (S, D) to the nearest of all features but
    the row itself, ascending: between rows of unit norm, and as they are. `largest`: the norm of
    the sample that all is divided by, as squares may overflow."""
    keep = NEIGHBOURS + with_itself
    # Far from the origin no digits would be left: with c the centre, x = u + c and y = v + c,
    # x . y = u . v + x . c + v . c
    sample = sample.float() / largest
    centre = sample.double().mean(0).float()
    inverse, rows = inverse_norm(sample), sample - centre
    offset, size = sample @ centre, rows.square().sum(1)
    unit = plain = rows.new_zeros(len(rows), 0)
    for block in row_slices(len(features), BLOCK):
        others = features[block].to(sample.device).float() / largest
        scale = inverse_norm(others)
        others = others - centre
        products = rows @ others.T
        plain = _least(plain, others.square().sum(1) - 2 * products, keep)
        products.add_(others @ centre).add_(offset[:, None]).mul_(inverse[:, None]).mul_(scale)
        unit = _least(unit, products.mul_(-2), keep)
    squared = unit.double() + 2, plain.double() + size.double()[:, None]
    found = [each.clamp(min=0).sqrt()[:, keep - NEIGHBOURS:] for each in squared]
    return found[0], largest * found[1]


def _least(best: Tensor, more: Tensor, keep: int) -> Tensor:
    """(S, keep) the least of `best` (S, K) and `more` (S, B), ascending."""
    more = more.topk(min(keep, more.shape[1]), largest=False).values
    both = torch.cat([best, more], 1)
    return both.topk(min(keep, both.shape[1]), largest=False).values
