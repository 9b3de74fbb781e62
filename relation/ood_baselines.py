"""The published baselines for outliers: one function each, HIGHER = MORE OUTLYING.

N source (test) rows, M target (training) rows, D feature width, C classes. Everything is taken as
the model gives it (features not normalised) and may be half precision or memory-mapped; each
function returns (N,) float32 and holds a block of rows at a time. Two are elsewhere: `mahalanobis`
in its own file, `knn_scores` in `ood.py`, beside the relation that it is made of. To add one: its
printed name and what it needs go into BASELINES or EXTRAS of experiment/run/ood_baselines.py, and
its formula here or there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from relation.tiles import row_slices, wide_zeros

EPS = 1e-6  # inside every logarithm, as published
REACT_QUANTILE = 0.9
REACT_STEP = 100  # every 100th training row is enough for a quantile over D values each
BLOCK = 8192  # rows at a time: temporaries of (BLOCK, C) or (BLOCK, D) instead of (N, ...)


def msp(probs: Tensor) -> Tensor:
    """-max_c p_c, of probs (N, C). Hendrycks and Gimpel 2017."""
    return _by_block(lambda p: -p.amax(1), probs)


def max_logit(logits: Tensor) -> Tensor:
    """-max_c of logits (N, C). Hendrycks et al. 2022."""
    return _by_block(lambda z: -z.amax(1), logits)


def energy(logits: Tensor, *, softmax_temperature: float = 1) -> Tensor:
    """-log sum_c exp(logit_c / T) of logits (N, C), T the softmax_temperature.

    Liu et al. 2020, who multiply by T as well: the same order. Raises ValueError for T <= 0.
    """
    if not softmax_temperature > 0:
        raise ValueError(f"softmax_temperature: expected above 0, got {softmax_temperature}")
    return _by_block(lambda z: -(z / softmax_temperature).logsumexp(1), logits)


def react(features: Tensor, target_features: Tensor, weight: Tensor, bias: Tensor, *,
          softmax_temperature: float = 1) -> Tensor:
    """Energy of the logits that the head gives for min(features, c).

    c is the value at position int(0.9 n) of the n sorted entries of every 100th target row; weight
    (C, D) and bias (C,) are the head's. Sun, Guo, Li 2021. The published code of the relation
    computes the clamped features but scores the others, so its row repeats the energy's.
    """
    entries = target_features[::REACT_STEP].float().flatten().sort().values
    ceiling = entries[int(REACT_QUANTILE * len(entries))].to(features.device)
    weight, bias = (part.to(features.device, torch.float32) for part in (weight, bias))
    return _by_block(lambda f: energy(f.clamp(max=ceiling) @ weight.T + bias,
                                      softmax_temperature=softmax_temperature), features)


def kl_matching(probs: Tensor, target_probs: Tensor) -> Tensor:
    """min_c sum_k p_k (log(p_k + 1e-6) - log(d_ck + 1e-6)), of probs (N, C).

    d_c (C,) is the mean of target_probs (M, C) over the rows predicted c. Hendrycks et al. 2022. A
    class that is never predicted has no d_c and is left out, where the published code turns every
    score into NaN.
    """
    classes = probs.shape[1]
    total = wide_zeros((classes, classes), target_probs.device)
    count = wide_zeros(classes, target_probs.device)
    for rows in row_slices(len(target_probs), BLOCK):
        p = target_probs[rows].to(total.dtype)
        predicted = p.argmax(1)
        total.index_add_(0, predicted, p)
        count += predicted.bincount(minlength=classes)
    typical = total[count > 0] / count[count > 0, None]
    log_typical = (typical + EPS).log().float().to(probs.device)  # (classes predicted, C)
    return _by_block(lambda p: (p * (p + EPS).log()).sum(1) - (p @ log_typical.T).amax(1), probs)


def _by_block(score: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """score of float32 values (N, ...), BLOCK rows at a time."""
    scores = torch.empty(len(values), device=values.device)
    for rows in row_slices(len(values), BLOCK):
        scores[rows] = score(values[rows].float())
    return scores
