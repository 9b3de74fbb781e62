"""Average precision of every score in one cell: the project's rows, and cleanlab's variants."""

import csv
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cleanlab.filter import find_label_issues as cleanlab_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from experiment.inputs.samples import Samples
from experiment.run.label_errors import find_label_errors
from experiment.run.settings import Settings

SETTINGS = Settings(device="cpu")
FOLDS = 5
STRENGTHS = (0.03, 1.0, 30.0)  # C of the tuned regression: the default is among them
METHODS = (("self_confidence", False), ("self_confidence", True), ("normalized_margin", False),
           ("normalized_margin", True), ("confidence_weighted_entropy", False))
SOURCES = ("in-sample", "cv", "cv tuned")  # of the probabilities that cleanlab is given
CLEANLAB = tuple(f"cleanlab {source} " for source in SOURCES)  # its columns begin with these
ISSUES = "issues "  # so do those with the number of issues that it finds


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a cell."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def about(path: Path, cell: dict[str, np.ndarray]) -> dict:
    """What tells a cell from others; `repeated`: share of wrong labels that the model repeats."""
    name, regime, noise = path.stem.split("__")
    wrong = cell["is_noisy"]
    repeated = (cell["probs"].argmax(1) == cell["labels"])[wrong].mean()
    return {"part": path.parent.name, "set": name, "regime": regime, "noise": noise,
            "rows": len(wrong), "features": cell["features"].shape[1],
            "classes": cell["probs"].shape[1], "n_wrong": int(wrong.sum()),
            "repeated": round(float(repeated), 3)}


def project_row(cell: dict[str, np.ndarray]) -> dict:
    """Average precision of every row of the project's table, the estimated number of wrong labels,
    its interval (empty where none is claimed) and the seconds of `auto`."""
    tensors = {name: torch.from_numpy(cell[name])
               for name in ("features", "probs", "labels", "is_noisy")}
    result = find_label_errors(Samples("cell", **tensors), SETTINGS, progress=False)
    facts = result.verdict.facts
    least, most = facts["wrong_between"] or (math.nan, math.nan)
    return {"estimated_wrong": facts["estimated_wrong"], "wrong_from": least, "wrong_to": most,
            "contradicted": round(facts["regime"]["contradicted"], 3),
            "seconds": round(result.seconds["auto"], 2),
            **{row["name"]: round(row["ap"], 4) for row in result.metrics}}


def cleanlab_row(cell: dict[str, np.ndarray]) -> dict:
    """Average precision of cleanlab's variants, and how many issues it finds.

    Probabilities: the model's own; out of five folds of logistic regression on the features, as
    scikit-learn has it by default; the same with the C of STRENGTHS whose out-of-fold
    cross-entropy on the given labels is least. Scores: `get_label_quality_scores` by each method,
    adjusted for class thresholds too where cleanlab offers it; and the rows of
    `find_label_issues` before all others, both by self-confidence.
    """
    labels, wrong, classes = cell["labels"], cell["is_noisy"], cell["probs"].shape[1]
    by_strength = {strength: _out_of_fold(cell["features"], labels, classes, strength)
                   for strength in STRENGTHS}
    tuned = min(STRENGTHS, key=lambda strength: log_loss(
        labels, by_strength[strength], labels=range(classes)))
    row = {}
    for source, probs in zip(SOURCES, (cell["probs"].astype(np.float64), by_strength[1.0],
                                       by_strength[tuned])):
        probs = np.clip(probs, 1e-12, None)
        probs /= probs.sum(1, keepdims=True)
        quality = {f"{method}{' adjusted' * adjusted}": get_label_quality_scores(
            labels, probs, method=method, adjust_pred_probs=adjusted)
            for method, adjusted in METHODS}
        issues = _issues(labels, probs)
        quality["issues first"] = quality["self_confidence"] - issues
        row |= {f"cleanlab {source} {name}": round(average_precision_score(wrong, -values), 4)
                for name, values in quality.items()}
        row[f"{ISSUES}{source}"] = int(issues.sum())
    return row


def _issues(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """cleanlab's issues (N,) bool; none where it finds no row confident enough to compare with."""
    try:
        return cleanlab_issues(labels, probs, n_jobs=1)
    except ValueError:
        return np.zeros(len(labels), dtype=bool)


def _out_of_fold(features: np.ndarray, labels: np.ndarray, classes: int, strength: float
                 ) -> np.ndarray:
    """Probabilities (N, C) of five folds; 0 for a class that no row is given."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probs = np.zeros((len(labels), classes))
    seen = np.unique(labels)
    with warnings.catch_warnings():  # it ends after 100 steps, as it does by default
        warnings.simplefilter("ignore", ConvergenceWarning)
        probs[:, seen] = cross_val_predict(LogisticRegression(C=strength), features, labels,
                                           cv=folds, method="predict_proba")
    return probs / probs.sum(1, keepdims=True)


def kept_rows(path: Path, cells: list[Path], measure: Callable[[dict], dict]) -> dict[str, dict]:
    """A row of figures for each cell by its file's name: found in the CSV at `path`, or measured
    and added to it, so that a run that was ended goes on."""
    rows = {}
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            rows = {row.pop("cell"): row for row in csv.DictReader(file)}
    for number, cell in enumerate(cells, 1):
        if cell.name in rows:
            continue
        row = rows[cell.name] = measure(load(cell))
        with open(path, "a", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["cell", *row])
            if file.tell() == 0:
                table.writeheader()
            table.writerow({"cell": cell.name, **row})
        print(f"{path.stem} {number} of {len(cells)}: {cell.stem}", flush=True)
    return {cell.name: rows[cell.name] for cell in cells}
