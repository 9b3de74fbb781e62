"""What the page draws: bars of a histogram, and points of precision-recall curves."""

import numpy as np
from sklearn.metrics import precision_recall_curve
from tqdm import tqdm

from experiment.run.result import Result

BINS = 60
POINTS = 200  # of a curve, as many as its pixels could show


def histogram(result: Result) -> dict:
    """edges (B + 1,), counts of one series or two (B,), their names, and whether edges are logs.

    Outlier scores 1 / (s + 1e-6) span many powers of ten: their edges are log10 of the score.
    """
    score = result.listed_score.double().numpy()
    logarithmic = result.finds_outliers
    if logarithmic:
        score = np.log10(score)
    edges = np.histogram_bin_edges(score, bins=BINS)
    if result.is_positive is None:
        series = {"all rows": score}
    else:
        truth = result.is_positive.numpy()
        negative, positive = result.words
        series = {negative: score[~truth], positive: score[truth]}
    return {"edges": edges.tolist(), "logarithmic": logarithmic, "names": list(series),
            "counts": [np.histogram(values, edges)[0].tolist() for values in series.values()]}


def curves(result: Result, *, progress: bool = False) -> list[dict]:
    """name, recall and precision of every score; none where the truth is unknown or one-sided."""
    if result.is_positive is None:
        return []
    truth = result.is_positive.numpy()
    if truth.all() or not truth.any():
        return []
    return [{"name": name, **_curve(truth, values.numpy())}
            for name, values in tqdm(result.scores.items(), desc="curves", unit=" scores", delay=1,
                                     disable=not progress)]


def _curve(truth: np.ndarray, values: np.ndarray) -> dict[str, list[float]]:
    precision, recall, _ = precision_recall_curve(truth, values)
    # Recall falls from 1 to 0; of the points that share a pixel the first is kept, and the ends.
    _, first = np.unique(np.round(recall * POINTS), return_index=True)
    kept = np.union1d(first, [0, len(recall) - 1])
    return {"recall": recall[kept].round(4).tolist(),
            "precision": precision[kept].round(4).tolist()}
