"""How well scores (higher = more suspicious) find the positives: noisy labels, or OOD rows."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

RECALL = 0.95


class Metrics(NamedTuple):
    """auroc, ap: as scikit-learn computes them, positive = noisy or OOD.

    tnr95: share of negatives below the threshold that finds 95 % of the positives.
    fpr95: share of positives accepted by the threshold that accepts 95 % of the negatives, as the
    OOD literature prints it with in-distribution as its positive class. It is not 1 - tnr95.
    """

    auroc: float
    ap: float
    tnr95: float
    fpr95: float


def evaluate(scores: np.ndarray, is_positive: np.ndarray) -> Metrics:
    """Metrics of scores (N,) against is_positive (N,) bool.

    Raises ValueError unless both classes are there: no figure is defined for one class.
    """
    scores = np.asarray(scores)
    is_positive = np.asarray(is_positive, dtype=bool)
    if is_positive.all() or not is_positive.any():
        raise ValueError(f"expected positives and negatives, got {is_positive.sum()} positives "
                         f"in {len(is_positive)} rows")
    order = scores.argsort(kind="stable")  # sorting again what is sorted takes next to nothing
    scores, is_positive = scores[order], is_positive[order]
    return Metrics(
        auroc=float(roc_auc_score(is_positive, scores)),
        ap=float(average_precision_score(is_positive, scores)),
        tnr95=_tnr95(scores, is_positive),
        fpr95=float((scores[is_positive] <= accept_threshold(scores[~is_positive])).mean()))


def accept_threshold(negative_scores: np.ndarray) -> float:
    """The smallest of the negatives' scores that at least 95 % of them do not exceed."""
    ordered = np.sort(negative_scores)
    return float(ordered[int(np.ceil(RECALL * len(ordered))) - 1])


def _tnr95(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """1 - FPR at the first point of scikit-learn's default curve whose TPR reaches 95 %."""
    fpr, tpr, _ = roc_curve(is_positive, scores)
    return float(1 - fpr[np.argmax(tpr >= RECALL)])
