"""One labelled set as its source gives it, and how many rows of it are used."""

from typing import NamedTuple

import numpy as np

MOST_ROWS = 2000  # of a set: cross-validation of 384 features and 30 classes stays at seconds
FEWEST_ROWS = 12  # of a class; smaller ones are left out, as 2 % of them is no row at all


class Labelled(NamedTuple):
    """N rows, D features, C classes. `inputs` (N, …) is what a network is trained on and `encoded`
    (N, D) what a frozen encoder makes of it: the same array where there is no encoder."""

    inputs: np.ndarray
    encoded: np.ndarray
    labels: np.ndarray  # (N,) int64
    class_names: list[str]


def chosen_rows(names: list[str], *, most: int = MOST_ROWS, fewest: int = FEWEST_ROWS,
                seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows to keep (K,), their labels (K,) int64, class names (C,): random rows of large classes.

    Classes with fewer than `fewest` rows among the chosen are left out.
    """
    rows = np.random.default_rng(seed).permutation(len(names))[:most]
    kept, counts = np.unique(np.array(names)[rows], return_counts=True)
    class_names = kept[counts >= fewest].tolist()
    rows = np.sort([row for row in rows if names[row] in set(class_names)])
    index = {name: label for label, name in enumerate(class_names)}
    return rows, np.array([index[names[row]] for row in rows], dtype=np.int64), class_names


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1 in float32; missing values become the mean, columns that do
    not vary go."""
    values = values.astype(np.float64)
    values = np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    values = values[:, values.std(axis=0) > 0]
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
