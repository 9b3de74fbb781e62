"""The published baselines for label errors: one function each, HIGHER = MORE SUSPECT.

features (N, D) as the model gives them (not normalised), probs (N, C), labels (N,); each returns
(N,) float32. Kim, Yun, Song 2023, section 5, whose definitions of some names differ from others':
the source of each is given where it does.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from relation.tiles import row_slices

EPS = 1e-6  # inside every logarithm, as published
BLOCK = 8192  # rows at a time: temporaries of (BLOCK, C) instead of (N, C)


def loss(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the given label: -log(p_y + 1e-6)."""
    return -(_own(probs, labels) + EPS).log()


def margin(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """Largest probability minus p_y; where p_y is the largest, the second largest minus p_y."""
    own = _own(probs, labels)
    best = probs.topk(min(2, probs.shape[1]), dim=1).values
    to_best = best[:, 0] - own
    # A single class has no rival: its margin is that of a rival of probability 0.
    to_rival = best[:, 1] - own if best.shape[1] == 2 else -own
    return torch.where(to_best == 0, to_rival, to_best)


def entropy(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """-sum_c p_c log(p_c + 1e-6); does not look at the label."""
    return -(probs * (probs + EPS).log()).sum(1)


def least_confidence(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """-max_c p_c; does not look at the label."""
    return -probs.amax(1)


def confidence_weighted_entropy(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """-p_y / entropy (cleanlab's quantity of this name is entropy / p_y, rescaled: the same order).

    The entropy is clamped at 1e-6 from below. Its 1e-6 inside the logarithm turns it negative when
    one probability saturates at 1, and a confident correct row would rank most suspect.
    """
    return -_own(probs, labels) / entropy(features, probs, labels).clamp(min=EPS)


def tracin(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """|f|^2 * |onehot(y) - p|^2: squared norm of the last layer's gradient (Pruthi et al. 2020)."""
    residual = one_hot(labels, probs.shape[1]) - probs
    return features.square().sum(1) * residual.square().sum(1)


def jensen_shannon(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """Jensen-Shannon divergence of p and onehot(y), its 1e-6 placed as published:

        m = (p + onehot) / 2 + 1e-6
        1/2 sum_c m (log m - log(p + 1e-6)) + 1/2 sum_c m (log m - log(onehot + 1e-6))
    """
    onehot = one_hot(labels, probs.shape[1]).to(probs.dtype)
    m = (probs + onehot) / 2 + EPS
    return 0.5 * (m * (2 * m.log() - (probs + EPS).log() - (onehot + EPS).log())).sum(1)


LABEL_BASELINES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "loss": loss,
    "margin": margin,
    "entropy": entropy,
    "least-confidence": least_confidence,
    "cwe": confidence_weighted_entropy,
    "tracin": tracin,
    "jsd": jensen_shannon,
}


def label_baseline_scores(features: Tensor, probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Every baseline under its printed name, each (N,) float32, in blocks of rows."""
    columns: dict[str, list[Tensor]] = {name: [] for name in LABEL_BASELINES}
    for rows in row_slices(len(labels), BLOCK):
        block = features[rows].float(), probs[rows].float(), labels[rows]
        for name, baseline in LABEL_BASELINES.items():
            columns[name].append(baseline(*block))
    return {name: torch.cat(parts) for name, parts in columns.items()}


def _own(probs: Tensor, labels: Tensor) -> Tensor:
    """p_y (N,): the probability of the given label."""
    return probs.gather(1, labels[:, None])[:, 0]
