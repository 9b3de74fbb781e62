"""What a row's nearest neighbours say about its label: the relation, kept to those that are near.

N rows, D features, C classes. r is the relation of kernel "cos" (`kernel.py`), and i itself never
counts among its neighbours:

    against_i = -mean of r(i, j) over the NEAREST rows j of largest cosine    HIGHER = MORE SUSPECT
    winner_i  = the class whose neighbours have the largest sum of cosines

A linear fit (`leave_one_out.py`) can read a memorised wrong label out of the features as soon as
any direction holds it; neighbours are a witness of another kind, that gives in later. Beyond AMONG
rows (or NEAREST for each class, if that is more) the neighbours are looked for among that many
random ones, so that the cost grows with N and not with its square.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import row_blocks, sample_rows
from relation.topk import relation_topk

NEAREST = 20
AMONG = 8192
BLOCK = 16_384  # rows at a time: each keeps its neighbours' indices and cosines


class Neighbours(NamedTuple):
    """against (N,) float32, higher = more suspect; winner (N,) int64, the neighbours' label."""

    against: Tensor
    winner: Tensor


def ask_neighbours(features: Tensor, labels: Tensor, classes: int, *,
                   trusted: Tensor | None = None, progress: bool = False) -> Neighbours:
    """Neighbours of each row among the trusted (N,) bool rows, all if not given.

    A row without any neighbour has against 0 and its own label as winner.
    """
    allowed = torch.arange(len(labels), device=labels.device) if trusted is None else \
        trusted.nonzero()[:, 0]
    targets = sample_rows(allowed, max(AMONG, NEAREST * classes))
    against = torch.zeros(len(labels), device=labels.device)
    winner = labels.clone()
    if len(targets) == 0:
        return Neighbours(against, winner)
    target_features = features[targets]
    k = min(NEAREST, len(targets) - 1)  # k + 1 are found, and one of them may be the row itself
    for rows in row_blocks(len(labels), "neighbours", progress=progress, step=BLOCK):
        cosine, at, _, _ = relation_topk(features[rows], None, target_features=target_features,
                                         kernel="cos", k=k)
        found = targets[at]
        itself = found == torch.arange(rows.start, rows.stop, device=found.device)[:, None]
        counted = ~itself & ((~itself).cumsum(1) <= NEAREST)
        cosine = torch.where(counted, cosine, 0.0)
        agrees = labels[found] == labels[rows, None]
        signed = torch.where(agrees, -cosine, cosine)
        against[rows] = signed.sum(1) / counted.sum(1).clamp(min=1)
        votes = torch.zeros(len(found), classes, device=found.device)
        votes.scatter_add_(1, labels[found], cosine)
        winner[rows] = torch.where(votes.any(1), votes.argmax(1), labels[rows])
    return Neighbours(against, winner)
