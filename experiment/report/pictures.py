"""scores.png: how the relation score separates, and precision against recall for every score."""

from pathlib import Path

import matplotlib
import numpy as np
from sklearn.metrics import precision_recall_curve
from tqdm import tqdm

from experiment.files import writing
from experiment.report.scores import PUBLISHED
from experiment.run.result import Result

matplotlib.use("Agg")  # a file, never a window
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

STEPS, FEW = 2000, 1000  # points of a curve: the picture is 1,440 pixels wide
GOOD, BAD, MUTED = "#4477aa", "#ee6677", "#bbbbbb"


def draw_scores(result: Result, path: Path, *, progress: bool = False) -> None:
    """Histogram of the relation score; beside it precision-recall where the truth is known."""
    score = result.relation_score.double().numpy()  # float32 has no 60 bins in a narrow range
    truth = None if result.is_positive is None else result.is_positive.numpy()
    evaluated = truth is not None and truth.any() and not truth.all()
    figure, axes = plt.subplots(1, 1 + evaluated, figsize=(5 * (1 + evaluated), 3.6),
                                squeeze=False, layout="constrained")
    _histogram(axes[0, 0], score, truth, *result.words)
    if evaluated:
        shown = (*PUBLISHED, result.relation_name, "auto")
        _precision_recall(axes[0, 1], {
            name: values for name, values in result.scores.items()
            if result.finds_outliers or name in shown}, truth, progress=progress)
    with writing.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=144)
    plt.close(figure)


def _histogram(axis, score: np.ndarray, truth: np.ndarray | None, negative: str,
               positive: str) -> None:
    bins = np.histogram_bin_edges(score, bins=60)
    if positive == "OOD":  # 1 / (s + 1e-6) spans many powers of ten
        bins = 10 ** np.histogram_bin_edges(np.log10(score), bins=60)
        axis.set_xscale("log")
    if truth is None:
        axis.hist(score, bins, color=GOOD)
    else:
        axis.hist(score[~truth], bins, color=GOOD, alpha=0.75, label=negative)
        axis.hist(score[truth], bins, color=BAD, alpha=0.75, label=positive)
        axis.legend(frameon=False, loc="upper right")
    axis.set(xlabel="relation score (higher = more suspect)", ylabel="rows", yscale="log")
    axis.spines[["top", "right"]].set_visible(False)


def _precision_recall(axis, scores, truth: np.ndarray, *, progress: bool) -> None:
    for name, values in tqdm(scores.items(), desc="scores.png", unit=" scores", delay=1,
                             disable=not progress):
        precision, recall, _ = precision_recall_curve(truth, values.numpy())
        ours = {"relation": BAD, "relation (loo)": BAD, "auto": "black"}.get(name)
        shown = _visible(recall)
        axis.plot(recall[shown], precision[shown], label=name, linewidth=2.2 if ours else 1,
                  color=ours, zorder=3 if ours else 2)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axis.spines[["top", "right"]].set_visible(False)
    # A fixed place: the best one is looked for among all points.
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _visible(recall: np.ndarray) -> np.ndarray:
    """Which points of a falling recall to draw: all of the first FEW rows that are found, where
    precision jumps, and beyond them one for each step of recall that can be seen."""
    steps = np.round(recall * STEPS)
    first = np.append(True, steps[1:] != steps[:-1])
    first[-FEW:] = True
    return first.nonzero()[0]
