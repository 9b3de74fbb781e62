"""How near to a row its ordinary neighbours come: the formula is in `duplicates.py`."""

import math

import numpy as np
import torch
from torch import Tensor

from relation.kernel import unit_rows
from relation.near_pairs import Picked
from relation.tiles import row_slices

LEAST_COSINE, LEAST_OF_MANY = 0.95, 0.98  # of a copy that is claimed unasked,
FEW = 32_768  # up to this many rows, and beyond
DENSE = 131_072  # rows that T5 and T10 are measured in: 3 s for a thousand features
SAMPLE = 1024  # rows that T5, T10 and d are estimated on
NEIGHBOURS, HALF_WAY = 10, 5  # T10 and T5
EXPECTED_SHARE = 0.01  # of ordinary neighbours among the claimed rows
STEPS_PER_OCTAVE = 8  # distances are tried at factors of 2^(1/8)
OCTAVES = 12  # down to a distance of 8e-5, below what float32 resolves
MOST_DIMENSIONS = 100.0  # where T5 = T10
BLOCK = 2**14  # rows at a time


def possible_radii(features: Tensor | Picked, sample: Tensor, digests: np.ndarray,
                   *, with_itself: bool) -> tuple[Tensor, Tensor]:
    """Distances that may be the threshold, descending, and the share of rows that have a nearer
    ordinary neighbour: a hundredth at most, as found(r) is N at most.

    sample (S, D): of the rows to judge, `with_itself` if these are the features (N, D), whose
    digests choose those to measure in.
    """
    n, keep = len(features), NEIGHBOURS + with_itself
    dense = features if n <= DENSE else Picked(features, first_rows(digests, DENSE))
    values = _largest_cosines(sample, dense, keep).double()
    distance = (2 - 2 * values).clamp(min=0).sqrt()[:, keep - NEIGHBOURS:]  # without the row itself
    tenth = distance[:, NEIGHBOURS - 1]
    spread = float((tenth / distance[:, HALF_WAY - 1].clamp(min=1e-12)).log().mean())
    expected_log = sum(1 / at for at in range(HALF_WAY, NEIGHBOURS))
    dimensions = min(MOST_DIMENSIONS, expected_log / max(spread, 1e-12))
    steps = torch.arange(STEPS_PER_OCTAVE * OCTAVES, device=sample.device, dtype=torch.float64)
    least = LEAST_COSINE if n <= FEW else LEAST_OF_MANY
    radii = math.sqrt(2 - 2 * least) * 2 ** (-steps / STEPS_PER_OCTAVE)
    within = NEIGHBOURS * n / len(dense)  # rows within T10
    share = torch.stack([(within * (r / tenth.clamp(min=1e-12)) ** dimensions)
                         .clamp(max=1).mean() for r in radii])
    possible = share <= EXPECTED_SHARE
    return radii[possible], share[possible]


def first_rows(digests: np.ndarray, most: int) -> Tensor:
    """(K,) ascending: the rows of the `most` smallest digests."""
    return torch.from_numpy(np.argsort(digests)[:most]).sort().values


def _largest_cosines(some: Tensor, features: Tensor | Picked, k: int) -> Tensor:
    """(S, k) of the rows of `some` (S, D) among all features, the largest first."""
    unit = unit_rows(some)
    best = unit.new_zeros(len(some), 0)
    for block in row_slices(len(features), BLOCK):
        cosines = unit @ unit_rows(features[block]).T
        best = torch.cat([best, cosines], 1).topk(min(k, best.shape[1] + cosines.shape[1])).values
    return best
