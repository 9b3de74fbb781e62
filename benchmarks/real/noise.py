"""Wrong labels: how many, and which ones."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

KINDS = ("uniform", "class", "feature")


def wrong_labels(encoded: np.ndarray, labels: np.ndarray, share: float, kind: str, seed: int
                 ) -> np.ndarray:
    """Given labels (N,) in which a share of the rows, rounded, has another label than the true one.

    uniform: random rows, every other class alike. class: random rows, each class to the class of
    the nearest mean. feature: the rows and classes that logistic regression on the true labels
    (five folds) finds likeliest to be mistaken, drawn with those probabilities.
    """
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    count = max(1, round(share * len(labels)))
    if kind == "feature":
        return _likely(encoded, labels, count, rng)
    given, rows = labels.copy(), rng.choice(len(labels), count, replace=False)
    if kind == "uniform":
        given[rows] = (labels[rows] + rng.integers(1, classes, count)) % classes
    elif kind == "class":
        given[rows] = _nearest_classes(encoded, labels, classes)[labels[rows]]
    else:
        raise ValueError(f"noise {kind!r}, expected one of {', '.join(KINDS)}")
    return given


def _nearest_classes(encoded: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    means = np.stack([encoded[labels == label].mean(0) for label in range(classes)])
    apart = ((means[:, None] - means) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(1)


def _likely(encoded: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
            ) -> np.ndarray:
    probs = cross_val_predict(LogisticRegression(max_iter=300), encoded, labels, cv=5,
                              method="predict_proba")
    rows = np.arange(len(labels))
    probs[rows, labels] = 0
    mistaken = probs.sum(1) + 1e-3  # no row is beyond mistaking, or there may be too few
    chosen = rng.choice(rows, count, replace=False, p=mistaken / mistaken.sum())
    given = labels.copy()
    for row in chosen:
        others = probs[row] + 1e-9 * (np.arange(probs.shape[1]) != labels[row])
        given[row] = rng.choice(probs.shape[1], p=others / others.sum())
    return given
