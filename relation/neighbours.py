"""What a row's nearest neighbours say about its label, looked for in the classes it may belong to.

N rows, D features, C classes, S classes that a row may belong to. Features are the unit rows x
without their mean, turned to the eigenvectors V of their covariance (eigenvalues v) and scaled by
v^-1/4, half way to whitened, as a few directions of largest variance would else hide the others:

    f_i   = v^-1/4 V^T (x_i - mean), scaled to unit L2 norm
    l_ic  = mean of f_i . f_j over the CLOSEST rows j of class c that are most alike    "local"
    n_ic  = sum of max(0, f_i . f_j) over those of class c among the NEAREST rows       "votes"

i itself never counts. Both become probabilities over the row's classes, p = softmax(b l_i) and
p = softmax(b log n_i), with the b that the given labels are most probable under.

For each class all rows that it is asked for meet the class's rows in one matrix product: N * S * M
operations for M rows of a class. M is at most AMONG and f has at most DIRECTIONS entries; larger
classes are sampled by a hash of the feature, so that the order of the rows changes nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import SAMPLED, LeaveOneOut, best_sharpness, row_blocks, sample_rows

CLOSEST = 10
NEAREST = 50
AMONG = 512  # rows of a class; more change the closest ten little
DIRECTIONS = 512  # of largest variance
SMALLEST = 1e-7  # of the largest variance: below it float32 holds nothing but rounding
BLOCK = 8192  # rows at a time: 16 MiB of cosines with AMONG rows
NO_CLASS = -4.0  # local similarity of a slot without a class, below any cosine


class Neighbours(NamedTuple):
    """local (N, S) and votes (N, S) float32: l and n of each of a row's classes."""

    local: Tensor
    votes: Tensor


def half_whitened(fit: LeaveOneOut) -> Tensor:
    """f (N, min(D, DIRECTIONS)) float16 of the rows that `fit` was made of, all of weight 1."""
    rows = fit.rows
    n = len(rows.labels)
    # The sums against the constant beside x are n times the mean.
    mean = fit.gram[:, -1] / n if rows.coordinates is None else rows.coordinates.double().mean(0)
    values, vectors = torch.linalg.eigh(fit.gram / n - mean[:, None] * mean)
    kept = (values > SMALLEST * values[-1].clamp(min=1e-12)).nonzero()[-DIRECTIONS:, 0]
    turn = vectors[:, kept] * values[kept].pow(-0.25)
    shift, turn = (mean @ turn).to(rows.dtype), turn.to(rows.dtype)
    found = torch.zeros(n, max(1, len(kept)), dtype=torch.float16, device=rows.device)
    for block in row_blocks(n, "", progress=False):
        turned = rows.inputs(block) @ turn - shift
        found[block, :len(kept)] = torch.nn.functional.normalize(turned).half()
    return found


def ask_neighbours(features: Tensor, labels: Tensor, slots: Tensor, *,
                   trusted: Tensor | None = None, progress: bool = False) -> Neighbours:
    """Neighbours of each row among the trusted (N,) bool rows, all if not given.

    features (N, K) of unit norm, labels (N,); slots (N, S): the classes that are asked for, -1
    where there are fewer. A class without another row has local -1 and no vote.
    """
    n, width = slots.shape
    local = torch.full((n, width), NO_CLASS, device=features.device)
    best = torch.zeros(n, NEAREST, device=features.device)
    holder = torch.zeros(n, NEAREST, dtype=torch.int16, device=features.device)
    counted = torch.arange(n, device=labels.device) if trusted is None else trusted.nonzero()[:, 0]
    members = _grouped(labels[counted])
    asking = _grouped(slots.flatten())  # pairs of row and slot, by class
    for label in row_blocks(max(asking) + 1, "neighbours", progress=progress, step=1):
        pairs, own = asking.get(label.start), members.get(label.start)
        if pairs is None:
            continue
        own = own if own is None else _sampled(counted[own], features)
        for block in row_blocks(len(pairs), "", progress=False, step=BLOCK):
            at, slot = pairs[block] // width, pairs[block] % width
            if own is None:
                local[at, slot] = -1.0
                continue
            cosine = features[at].float() @ features[own].float().T
            cosine[at[:, None] == own] = -1.0
            largest = cosine.topk(min(NEAREST, len(own)), dim=1).values
            # The last of few may be the row itself, which says nothing.
            k = min(CLOSEST, max(1, len(own) - 1))
            local[at, slot] = largest[:, :k].mean(1)
            merged = torch.cat([best[at], largest], 1)
            by = torch.cat([holder[at], slot[:, None].to(torch.int16).expand(largest.shape)], 1)
            best[at], order = merged.topk(NEAREST, dim=1)
            holder[at] = by.gather(1, order)
    votes = torch.zeros(n, width, device=features.device)
    for block in row_blocks(n, "", progress=False):
        votes[block] = votes[block].scatter_add(1, holder[block].long(), best[block])
    return Neighbours(local, votes)


def local_probs(local: Tensor, counted: Tensor | None = None) -> Tensor:
    """softmax(b l) (N, S), slot 0 being the given label; b from the counted (N,) bool rows."""
    return torch.softmax(_sharpness(local, counted) * local, 1)


def vote_probs(votes: Tensor, slots: Tensor, shares: Tensor) -> Tensor:
    """softmax(b log n) (N, S); a class's share of the rows counts as one neighbour more.

    shares (C,): of the given labels. Slots of -1 have probability 0.
    """
    total = votes.sum(1, keepdim=True).clamp(min=1e-9)
    prior = torch.where(slots >= 0, shares[slots.clamp(min=0)], 0.0).clamp(min=1e-9)
    logs = ((NEAREST * votes / total + prior) / (NEAREST + 1)).log()
    return torch.softmax(_sharpness(logs, None) * logs, 1)


def _sharpness(z: Tensor, counted: Tensor | None) -> float:
    rows = torch.arange(len(z), device=z.device) if counted is None else counted.nonzero()[:, 0]
    z = z[sample_rows(rows, SAMPLED)].double()
    given = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    return best_sharpness(z, given, z.new_ones(len(z)))


def _grouped(labels: Tensor) -> dict[int, Tensor]:
    """Positions of each label of 0 and above."""
    order = labels.argsort(stable=True)
    found, counts = labels[order].unique_consecutive(return_counts=True)
    return {label: at for label, at in zip(found.tolist(), order.split(counts.tolist()))
            if label >= 0}


def _sampled(rows: Tensor, features: Tensor) -> Tensor:
    """At most AMONG of the rows, by a hash of their features: the same rows in any order."""
    if len(rows) <= AMONG:
        return rows
    bits = features[rows].view(torch.int16).long()
    factors = torch.arange(1, bits.shape[1] + 1, device=bits.device) * 2654435761
    hashed = (bits * (factors | 1)).sum(1) * 6364136223846793005
    return rows[hashed.argsort()[:AMONG]]
