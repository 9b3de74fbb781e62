"""Probabilities for classes that a network has no head for: logistic regression on its features.

Cross-validated, so that a row's probabilities do not use its own label: the rows are split into
stratified folds, and each fold is predicted by the fit to the others. Copies, as
relation/duplicates.py finds them, are in one fold, since a row that was copied with its wrong label
would else vouch for itself; where no class has two rows without them, they are rows like others.
The model is scikit-learn's L2 logistic regression on features of mean 0 and deviation 1; its
strength (scikit-learn's C) is the one with the least out-of-fold cross-entropy on up to SAMPLED
rows. The result is deterministic.

A class with a single row, or with copies of a single one, is unknown to the fit without it: its
probability there is 0, and the row is suspect, as nothing supports it.

N rows, D features, C classes. In memory: up to three times the features in float32, and a few
times N C floats. Time: at most STEPS FOLDS N D C multiply-adds, twice. Measured on one core with
768 features: 50,000 rows of 10 classes 6 s, of 100 classes 14 s. A million rows of 1,000 classes
would take a day: use a network with a head of its own, or a feature file with its logits.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor
from tqdm import tqdm

import relation

FOLDS = 5
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # above 1 wrong labels were fitted, in all trials
SAMPLED = 5000  # rows on which the strength is chosen
# Up to which near copies are looked for, which takes as long as the fits; beyond, those of
# identical features alone.
NEAR_ROWS = 20_000
STEPS = 200  # of the optimiser; if they do not suffice, the fit is only smoother
EPS = 1e-6  # as in the loss of the report


class Head(NamedTuple):
    """A linear layer on unscaled features. A class that it was not fitted to has bias -inf."""

    weight: Tensor  # (C, D)
    bias: Tensor  # (C,)

    def __call__(self, features: Tensor) -> Tensor:
        """features (B, D) -> logits (B, C)."""
        return features.float() @ self.weight.T + self.bias


class Probe(NamedTuple):
    """probs (N, C) float32, out-of-sample; the number of folds; the chosen strength."""

    probs: Tensor
    folds: int
    strength: float


def cross_validate(features: Tensor, labels: Tensor, classes: int, *, progress: bool = False
                   ) -> Probe:
    """Probabilities (N, C) of rows (N, D) with labels (N,), each by a fit without that row.

    Raises ValueError if no class has two rows: there is nothing to fit.
    """
    if _folds(labels) < 2:
        raise ValueError("expected a class of at least two rows, got none")
    first = _first_copies(features, progress=progress)
    if _folds(labels[first.unique()]) < 2:
        first = torch.arange(len(labels))
    rows = slice(None)
    if len(labels) > SAMPLED:
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:SAMPLED]
        rows = chosen.sort().values
    strength = _choose(features[rows], labels[rows], first[rows], classes)
    folds = _split(labels, first)
    return Probe(_held_out(features, labels, classes, strength, folds, progress=progress),
                 len(folds), strength)


def fit_head(features: Tensor, labels: Tensor, classes: int, strength: float) -> Head:
    """Logistic regression of labels (N,) on features (N, D), as a layer for unscaled features."""
    x, y = features.float().numpy(), labels.numpy()
    mean = x.mean(0, dtype=np.float64)
    scale = x.std(0, dtype=np.float64)
    scale[scale == 0] = 1  # a constant feature carries no information
    weight = np.zeros((classes, x.shape[1]))
    bias = np.full(classes, -np.inf)
    present = np.unique(y)
    if len(present) == 1:
        bias[present] = 0
    else:
        with warnings.catch_warnings():
            # Warnings that STEPS did not suffice, and that there are many classes for few rows.
            warnings.simplefilter("ignore", UserWarning)
            fit = LogisticRegression(C=strength, max_iter=STEPS).fit(
                (x - mean.astype(np.float32)) / scale.astype(np.float32), y)
        # For two classes scikit-learn keeps the difference of their logits.
        rows, ends = (fit.coef_, fit.intercept_) if len(present) > 2 else (
            np.concatenate([-fit.coef_, fit.coef_]) / 2,
            np.concatenate([-fit.intercept_, fit.intercept_]) / 2)
        weight[present] = rows / scale
        bias[present] = ends - weight[present] @ mean
    return Head(torch.from_numpy(weight).float(), torch.from_numpy(bias).float())


def _first_copies(features: Tensor, *, progress: bool) -> Tensor:
    """(N,) the first of each row's copies, itself where it has none."""
    near = "auto" if len(features) <= NEAR_ROWS else None
    return relation.first_of_group(relation.find_duplicates(features, threshold=near,
                                                            progress=progress).groups)


def _choose(features: Tensor, labels: Tensor, first: Tensor, classes: int) -> float:
    """The strength with the least out-of-fold cross-entropy; without folds, the weakest fit."""
    folds = _split(labels, first)
    if not folds:
        return STRENGTHS[0]
    losses = []
    for strength in STRENGTHS:
        probs = _held_out(features, labels, classes, strength, folds, progress=False)
        own = probs.gather(1, labels[:, None])
        losses.append(float(-(own + EPS).log().mean()))
    return STRENGTHS[int(np.argmin(losses))]


def _held_out(features: Tensor, labels: Tensor, classes: int, strength: float,
              folds: list[tuple[Tensor, Tensor]], *, progress: bool) -> Tensor:
    """Probabilities (N, C) of each row by the fit to the other folds."""
    probs = torch.empty(len(labels), classes)
    for train, test in tqdm(folds, desc="logistic regression", unit=" folds", delay=1,
                            disable=not progress):
        head = fit_head(features[train], labels[train], classes, strength)
        probs[test] = torch.softmax(head(features[test]), 1)
    return probs


def _folds(labels: Tensor) -> int:
    """FOLDS, or as many as the largest class has rows."""
    return min(FOLDS, int(labels.bincount().max()))


def _split(labels: Tensor, first: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows to fit on and rows to predict, of each fold; none where there is only one.

    first (N,): the same number for all copies of a row. They go where their first row goes.
    """
    _, group = first.unique(return_inverse=True)
    every = torch.arange(len(labels))
    single = torch.full((int(group.max()) + 1,), len(labels)).scatter_reduce(
        0, group, every, "amin")
    count = _folds(labels[single])
    if count < 2:
        return []
    fold = torch.empty_like(single)
    with warnings.catch_warnings():
        # Warnings of classes with fewer rows than folds.
        warnings.simplefilter("ignore", UserWarning)
        folds = StratifiedKFold(count, shuffle=True, random_state=0).split(single, labels[single])
        for number, (_, test) in enumerate(folds):
            fold[test] = number
    return [((fold[group] != number).nonzero()[:, 0], (fold[group] == number).nonzero()[:, 0])
            for number in range(count)]
