"""scores.csv, the scores of every row, and metrics.json, how good they are and what made them.

A column is added in `columns_of`; suspects.csv has its own in `suspects.table`.
"""

import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import relation
from experiment.command.watch import peak_memory_mib
from experiment.files import writing
from experiment.report import csv_rows
from experiment.report.shared_columns import Column, identity, ranks, whole_set
from experiment.run.result import Result

LIBRARIES = ("torch", "numpy", "scikit-learn")
# Scores of label errors that stand before the truth; further ones stand behind it.
PUBLISHED = (*relation.LABEL_BASELINES, "relation (initial)")


def write(result: Result, folder: Path, *, progress: bool = False) -> None:
    """Write scores.csv."""
    csv_rows.write(folder / "scores.csv", columns_of(result), progress=progress)


def write_metrics(result: Result, folder: Path, *, options: dict[str, Any]) -> None:
    """Write metrics.json, after the other files, whose seconds it holds; `options`: the command
    line."""
    samples = result.samples
    writing.save_json({
        "rows": result.metrics,
        "settings": options,
        "method": asdict(result.settings),
        "versions": {"python": platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in LIBRARIES}},
        "data": {"source": samples.source, "n": len(samples),
                 "dim": samples.features.shape[1], "classes": samples.probs.shape[1],
                 "fingerprint": result.fingerprint},
        **result.further,
        "seconds": result.seconds,
        "peak_memory_mib": peak_memory_mib(),
    }, folder / "metrics.json")


def columns_of(result: Result) -> dict[str, Column]:
    """The columns of scores.csv, in order; rows as in the data."""
    samples, score = result.samples, result.relation_score.numpy()
    columns = identity(samples)
    predicted = result.predicted.numpy()
    if result.finds_outliers:
        columns["predicted_label"] = predicted
    else:
        given = samples.labels
        columns |= {"given_label": given.numpy(), "predicted_label": predicted,
                    "given_label_prob": samples.probs.gather(1, given[:, None])[:, 0]
                    .float().numpy()}
    columns |= {"relation_score": score, "rank": ranks(score)}
    others = {name: values.numpy() for name, values in result.scores.items()
              if name not in (result.relation_name, "auto")}
    before = [name for name in others if result.finds_outliers or name in PUBLISHED]
    columns |= {name: others.pop(name) for name in before}
    if result.is_positive is not None:
        columns[result.truth_name] = result.is_positive.numpy()
    columns |= {**samples.extra, **others}
    if "auto" in result.scores:
        auto = result.scores["auto"].numpy()
        columns |= {"auto_score": auto, "auto_rank": ranks(auto)}
    if result.verdict is not None:
        columns["suggested_label"] = result.verdict.suggested_labels.numpy()
    columns |= whole_set(result)
    return columns | {"decision": samples.decisions} if samples.reviewed else columns
