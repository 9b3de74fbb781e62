"""Label errors by the relation: estimate the noisy set, then score again without trusting it.

Kim, Yun, Song 2023, algorithm 1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from relation.scores import relation_scores
from relation.sums import Prepared


class LabelNoise(NamedTuple):
    """scores (N,) higher = more suspect; estimated_noise (N,) bool, the set that the last
    refinement left out (empty if there was none); reliability (N,), the last s, higher = better."""

    scores: Tensor
    estimated_noise: Tensor
    reliability: Tensor


def detect_label_noise(features: Tensor, probs: Tensor | None, labels: Tensor, *,
                       kernel: str = "cos_p", temperature: float = 4, threshold: float = 0.03,
                       noise_threshold: float = 0.05, n_iter: int = 2, chunk: int = 250,
                       initial: Tensor | None = None, engine: str = "auto",
                       progress: bool = False, prepared: Prepared | None = None) -> LabelNoise:
    """Score every row of a labelled set: HIGHER = MORE SUSPECT LABEL, at most 1 in size.

        s_0     = relation scores of the set against itself
        E_m     = { i : s_m[i] / max|s_m| < -noise_threshold }
        s_(m+1) = s_0 - 2 * (relation scores against the rows of E_m alone)
        score   = -s / max|s| of the last s

    Subtracting twice flips the sign of every edge to a row whose label is thought wrong. n_iter
    counts the s that are computed: 1 stops at s_0, 2 (as published) at s_1. A step whose estimate
    repeats the one before it is skipped, since s would repeat too. `initial` is s_0 where it is
    known already, and `prepared` what computing it has left. Shapes and errors as in
    `relation_scores`; also ValueError for n_iter < 1 or noise_threshold < 0.
    """
    if n_iter < 1:
        raise ValueError(f"n_iter: expected at least 1, got {n_iter}")
    if not noise_threshold >= 0:
        raise ValueError(f"noise_threshold: expected at least 0, got {noise_threshold}")
    settings: dict[str, Any] = dict(kernel=kernel, temperature=temperature, threshold=threshold,
                                    chunk=chunk, engine=engine, progress=progress,
                                    prepared=prepared or Prepared())
    if initial is None:
        initial = relation_scores(features, probs, labels, **settings)
    reliability = initial
    estimated = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for _ in range(n_iter - 1):
        previous, estimated = estimated, relative(reliability) < -noise_threshold
        if torch.equal(estimated, previous):
            break
        if not estimated.any():
            reliability = initial
            continue
        from_noisy = relation_scores(features, probs, labels,
                                     target_rows=estimated.nonzero()[:, 0], **settings)
        reliability = initial - 2 * from_noisy
    return LabelNoise(-relative(reliability), estimated, reliability)


def relative(reliability: Tensor) -> Tensor:
    """s / max|s|; all zero where no edge was kept."""
    largest = reliability.abs().max()
    return reliability / torch.where(largest > 0, largest, 1.0)
