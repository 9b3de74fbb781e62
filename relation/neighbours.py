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
classes are sampled by a hash of the row as stored: the order of the rows changes nothing.
Classes are shared among threads; held in memory are the NEAREST of each of PAIRS rows and classes.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import SAMPLED, LeaveOneOut, best_sharpness, row_blocks
from relation.parallel import in_order
from relation.sampling import row_keys, sample_rows

CLOSEST = 10
NEAREST = 50
AMONG = 512  # rows of a class; more change the closest ten little
DIRECTIONS = 512  # of largest variance
SMALLEST = 1e-7  # of the largest variance: below it float32 holds nothing but rounding
BLOCK = 2048  # rows at a time: 4 MiB of cosines with AMONG rows
PAIRS = 2**20  # of a row and a class whose NEAREST are held at a time: 200 MiB
NO_CLASS = -4.0  # local similarity of a slot without a class, below any cosine


class Neighbours(NamedTuple):
    """local (N, S) and votes (N, S) float32: l and n of each of a row's classes."""

    local: Tensor
    votes: Tensor


class Directions(NamedTuple):
    """The turn to f: f before it has unit norm is x turn - shift. Variances v (K,) and directions
    V (D + 1, K), ascending; mean (D + 1,); lost (L,): the variances of the directions left out."""

    turn: Tensor
    shift: Tensor
    values: Tensor
    vectors: Tensor
    mean: Tensor
    lost: Tensor


def directions(fit: LeaveOneOut, most: int = DIRECTIONS) -> Directions:
    """At most `most` directions of largest variance of the rows that `fit` was made of, all of
    weight 1; float64 but for turn and shift."""
    rows = fit.rows
    if rows.coordinates is None:  # the sums against the constant beside x are n times the mean
        n, mean = float(fit.gram[-1, -1]), fit.gram[:, -1] / fit.gram[-1, -1]
    else:
        n, mean = len(rows.labels), rows.coordinates.double().mean(0)
    values, vectors = torch.linalg.eigh(fit.gram / n - mean[:, None] * mean)
    kept = (values > SMALLEST * values[-1].clamp(min=1e-12)).nonzero()[-most:, 0]
    first = int(kept[0]) if len(kept) else len(values)
    lost, values, vectors = values[:first].clamp(min=0), values[kept], vectors[:, kept]
    turn = vectors * values.pow(-0.25)
    return Directions(turn.to(rows.dtype), (mean @ turn).to(rows.dtype), values, vectors, mean,
                      lost)


def half_whitened(fit: LeaveOneOut) -> Tensor:
    """f (N, min(D, DIRECTIONS)) float16 of the rows that `fit` was made of, all of weight 1."""
    rows, to = fit.rows, directions(fit)
    found = torch.zeros(len(rows.labels), max(1, len(to.values)), dtype=torch.float16,
                        device=rows.device)
    for block in row_blocks(len(found), "", progress=False):
        turned = rows.inputs(block) @ to.turn - to.shift
        found[block, :len(to.values)] = torch.nn.functional.normalize(turned).half()
    return found


class Sample(NamedTuple):
    """Which rows of a large class are looked among: the `most` of least `keys` (N,) int64.

    The keys are to be of what is stored: rounding in what is computed would choose others.
    """

    keys: Tensor
    most: int = AMONG


def ask_neighbours(features: Tensor, labels: Tensor, slots: Tensor, *,
                   trusted: Tensor | None = None, vote: bool = True, sample: Sample | None = None,
                   progress: bool = False) -> Neighbours:
    """Neighbours of each row among the trusted (N,) bool rows, all if not given.

    features (N, K) of unit norm, labels (N,); slots (N, S): the classes that are asked for, -1
    where there are fewer; sample: by default AMONG rows of a class, by `features`. A class without
    another row has local -1 and no vote. All votes are 0 if there is no `vote`, which saves time.
    """
    n, width = slots.shape
    local = torch.full((n, width), NO_CLASS, device=features.device)
    votes = torch.zeros(n, width, device=features.device)
    counted = torch.arange(n, device=labels.device) if trusted is None else trusted.nonzero()[:, 0]
    sample = sample or Sample(row_keys(features))
    members = {label: _sampled(counted[rows], sample)
               for label, rows in _grouped(labels[counted]).items()}
    for block in row_blocks(n, "neighbours", progress=progress, step=max(1, PAIRS // width)):
        nearest = torch.zeros(block.stop - block.start, width, NEAREST if vote else 0,
                              device=features.device)
        asking = _grouped(slots[block].flatten())  # pairs of row and slot, by class
        ask = partial(_ask_class, features, members, asking, block.start, local[block], nearest)
        for _ in in_order(ask, list(asking), features.device):
            pass
        for some in row_blocks(len(nearest) if vote else 0, "", progress=False, step=BLOCK):
            best = nearest[some].flatten(1).topk(NEAREST, dim=1, sorted=False)
            votes[block][some].scatter_add_(1, best.indices // NEAREST, best.values)
    return Neighbours(local, votes)


def _ask_class(features: Tensor, members: dict[int, Tensor], asking: dict[int, Tensor], first: int,
               local: Tensor, nearest: Tensor, label: int) -> None:
    """Fill local (B, S) and nearest (B, S, NEAREST or 0) where the rows from `first` on ask for
    the class."""
    pairs, own, width = asking[label], members.get(label), local.shape[1]
    if own is None:
        local.view(-1)[pairs] = -1.0
        return
    others = features[own].float().T
    closest = min(CLOSEST, max(1, len(own) - 1))  # the last of few may be the row itself
    most = max(closest, min(nearest.shape[2], len(own)))
    for block in row_blocks(len(pairs), "", progress=False, step=BLOCK):
        some = pairs[block]
        at = first + some // width
        cosine = features[at].float() @ others
        place = torch.searchsorted(own, at).clamp(max=len(own) - 1)
        itself = (own[place] == at).nonzero()[:, 0]
        cosine[itself, place[itself]] = -1.0
        largest = _largest(cosine, most, closest)
        local.view(-1)[some] = largest[:, -closest:].mean(1)
        if nearest.shape[2]:
            nearest.view(-1, NEAREST)[some, :most] = largest.clamp_(min=0)


def _largest(values: Tensor, most: int, first: int) -> Tensor:
    """The `most` largest (B, most) of each row of values (B, M), the `first` largest last."""
    if values.device.type != "cpu":
        return values.topk(most, dim=1).values.flip(1)
    m = values.shape[1]
    values.numpy().partition((m - most, m - first), axis=1)  # a fifth of the time of topk
    return values[:, m - most:]


def local_probs(local: Tensor, keys: Tensor, counted: Tensor | None = None) -> Tensor:
    """softmax(b l) (N, S), slot 0 being the given label; b from the counted (N,) bool rows, of many
    from those that their keys (N,) choose."""
    return torch.softmax(_sharpness(local, keys, counted) * local, 1)


def vote_probs(votes: Tensor, slots: Tensor, shares: Tensor, keys: Tensor) -> Tensor:
    """softmax(b log n) (N, S); a class's share of the rows counts as one neighbour more.

    shares (C,): of the given labels; keys as in `local_probs`. Slots of -1 have probability 0.
    """
    total = votes.sum(1, keepdim=True).clamp(min=1e-9)
    prior = torch.where(slots >= 0, shares[slots.clamp(min=0)], 0.0).clamp(min=1e-9)
    logs = ((NEAREST * votes / total + prior) / (NEAREST + 1)).log()
    return torch.softmax(_sharpness(logs, keys, None) * logs, 1)


def _sharpness(z: Tensor, keys: Tensor, counted: Tensor | None) -> float:
    rows = torch.arange(len(z), device=z.device) if counted is None else counted.nonzero()[:, 0]
    z = z[sample_rows(rows, SAMPLED, keys)].double()
    given = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    return best_sharpness(z, given, z.new_ones(len(z)))


def _grouped(labels: Tensor) -> dict[int, Tensor]:
    """Positions of each label of 0 and above."""
    order = labels.argsort(stable=True)
    found, counts = labels[order].unique_consecutive(return_counts=True)
    return {label: at for label, at in zip(found.tolist(), order.split(counts.tolist()))
            if label >= 0}


def _sampled(rows: Tensor, sample: Sample) -> Tensor:
    """At most so many of the rows, ascending: the same rows in any order."""
    if len(rows) <= sample.most:
        return rows
    return rows[sample.keys[rows].argsort()[:sample.most].sort().values]
