"""The published baselines for label errors: one function each, HIGHER = MORE SUSPECT.

Kim, Yun, Song 2023, section 5, whose definitions of some names differ from others': the source of
each is given where it does. N rows, D features, C classes; f (D,) is a row's feature as the model
gives it (not normalised), p (C,) its probabilities, y its given label.

All are made of a few sums over a row's entries (`Terms`), which one pass over features and
probabilities finds. The entry p_y is taken out before the sums are made, so that what is left needs
no one-hot vector: 0 adds nothing to any of them. Held in memory are the terms and the scores, and
for each thread three blocks that stay in a core's cache and are used again for the next rows:
results that are kept between temporaries that are freed let the C library's heap grow without end.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from relation.blocks import Buffers
from relation.parallel import in_order
from relation.tiles import row_slices

EPS = 1e-6  # inside every logarithm, as published
PIECE = 4096  # rows that a thread takes at a time
# Entries of a block: three float32 blocks stay in cache, and a kernel call is worth its overhead.
# Other devices have no use for small ones.
CPU_BLOCK, DEVICE_BLOCK = 2**17, 2**22


class Terms(NamedTuple):
    """Sums over the entries of each row, (N,) float32; "others" are the classes c other than y."""

    own: Tensor  # p_y
    rival: Tensor  # largest p_c of the others; 0 where there is one class only
    others_p_log_p: Tensor  # sum over the others of p_c log(p_c + EPS)
    others_square: Tensor  # sum over the others of p_c^2
    others_jsd: Tensor  # their part of the Jensen-Shannon divergence
    feature_square: Tensor  # |f|^2


def loss(terms: Terms) -> Tensor:
    """Cross-entropy of the given label: -log(p_y + 1e-6)."""
    return -(terms.own + EPS).log()


def margin(terms: Terms) -> Tensor:
    """Largest probability minus p_y; where p_y is the largest, the second largest minus p_y."""
    return terms.rival - terms.own  # in either case the largest of the others


def entropy(terms: Terms) -> Tensor:
    """-sum_c p_c log(p_c + 1e-6); does not look at the label."""
    return -(terms.others_p_log_p + terms.own * (terms.own + EPS).log())


def least_confidence(terms: Terms) -> Tensor:
    """-max_c p_c; does not look at the label."""
    return -torch.maximum(terms.own, terms.rival)


def confidence_weighted_entropy(terms: Terms) -> Tensor:
    """-p_y / entropy (cleanlab's quantity of this name is entropy / p_y, rescaled: the same order).

    The entropy is clamped at 1e-6 from below. Its 1e-6 inside the logarithm turns it negative when
    one probability saturates at 1, and a confident correct row would rank most suspect.
    """
    return -terms.own / entropy(terms).clamp(min=EPS)


def tracin(terms: Terms) -> Tensor:
    """|f|^2 * |onehot(y) - p|^2: squared norm of the last layer's gradient (Pruthi et al. 2020)."""
    return terms.feature_square * (terms.others_square + (1 - terms.own).square())


def jensen_shannon(terms: Terms) -> Tensor:
    """Jensen-Shannon divergence of p and onehot(y), its 1e-6 placed as published:

        m = (p + onehot) / 2 + 1e-6
        1/2 sum_c m (log m - log(p + 1e-6)) + 1/2 sum_c m (log m - log(onehot + 1e-6))
    """
    m = (terms.own + 1) / 2 + EPS
    own = m * (2 * m.log() - (terms.own + EPS).log() - math.log(1 + EPS))
    return 0.5 * (terms.others_jsd + own)


LABEL_BASELINES: dict[str, Callable[[Terms], Tensor]] = {
    "loss": loss,
    "margin": margin,
    "entropy": entropy,
    "least-confidence": least_confidence,
    "cwe": confidence_weighted_entropy,
    "tracin": tracin,
    "jsd": jensen_shannon,
}


@torch.no_grad()
def label_baseline_scores(features: Tensor, probs: Tensor, labels: Tensor, *,
                          progress: bool = False) -> dict[str, Tensor]:
    """Every baseline under its printed name, each (N,) float32.

    features (N, D), probs (N, C) of entries >= 0, labels (N,) int64. Features and probabilities may
    be half precision or memory-mapped: they are read once, in blocks, by as many threads as torch
    has.
    """
    terms = Terms(*torch.empty(len(Terms._fields), len(labels), device=probs.device))
    buffers = Buffers()

    @torch.no_grad()  # of each thread's own
    def fill(rows: slice) -> None:
        _fill(terms, rows, features, probs, labels, buffers)

    pieces = list(row_slices(len(labels), PIECE))
    with tqdm(total=len(labels), desc="baselines", unit=" rows", unit_scale=True, delay=1,
              disable=not progress) as bar:
        for rows, _ in zip(pieces, in_order(fill, pieces, probs.device)):
            bar.update(rows.stop - rows.start)
    return {name: baseline(terms) for name, baseline in LABEL_BASELINES.items()}


def _fill(terms: Terms, piece: slice, features: Tensor, probs: Tensor, labels: Tensor,
          buffers: Buffers) -> None:
    """Write the terms of a piece of the rows."""
    entries = CPU_BLOCK if probs.device.type == "cpu" else DEVICE_BLOCK
    step = max(1, entries // max(features.shape[1], probs.shape[1]))
    for rows in row_slices(piece.stop - piece.start, step):
        rows = slice(piece.start + rows.start, piece.start + rows.stop)
        into = Terms(*(term[rows] for term in terms))
        _fill_from_features(into, features[rows], buffers)
        _fill_from_probs(into, probs[rows], labels[rows, None], buffers)


def _fill_from_features(into: Terms, features: Tensor, buffers: Buffers) -> None:
    block = buffers.empty("a", *features.shape, device=features.device).copy_(features)
    torch.sum(block.square_(), 1, out=into.feature_square)


def _fill_from_probs(into: Terms, probs: Tensor, label: Tensor, buffers: Buffers) -> None:
    """From probs (B, C) and label (B, 1); every step overwrites one of three blocks (B, C)."""
    p, log_p, spare = (buffers.empty(name, *probs.shape, device=probs.device) for name in "abc")
    p.copy_(probs)
    into.own.copy_(p.gather(1, label)[:, 0])
    p.scatter_(1, label, 0)
    torch.amax(p, 1, out=into.rival)
    torch.add(p, EPS, out=log_p).log_()
    torch.sum(torch.mul(p, log_p, out=spare), 1, out=into.others_p_log_p)
    torch.sum(torch.mul(p, p, out=spare), 1, out=into.others_square)
    m = p.mul_(0.5).add_(EPS)
    # log(onehot + 1e-6) of the others is log(1e-6): at p = 0 the three logarithms cancel.
    torch.log(m, out=spare).mul_(2).sub_(log_p).sub_(math.log(EPS)).mul_(m)
    torch.sum(spare, 1, out=into.others_jsd)
