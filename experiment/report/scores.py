"""The one place that prints and writes results: table, suspects, scores.csv, metrics.json."""

import csv
import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiment.command.escaping import cell
from experiment.files import writing
from experiment.report import pictures, suspects
from experiment.report.page import html
from experiment.run.memory import peak_memory_mib
from experiment.run.result import Result

LIBRARIES = ("torch", "numpy", "scikit-learn")


def write(result: Result, folder: Path, settings: dict[str, Any], *, show: int | None = None
          ) -> list[str]:
    """scores.csv, metrics.json, scores.png, report.html and the export under `folder`.

    Returns the names of the files. `show`: suspects that the page shows with media and evidence;
    None: a handy number.
    """
    with writing.replacing(folder / "scores.csv") as temporary, \
            open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns := _columns(result))
        table.writerows(_rows(columns.values()))
    writing.save_json({
        "rows": result.metrics,
        "settings": settings,
        "versions": {"python": platform.python_version(),
                     **{name: importlib.metadata.version(name) for name in LIBRARIES}},
        "data": {"source": result.samples.source, "n": len(result.samples),
                 "dim": result.samples.features.shape[1], "classes": result.samples.probs.shape[1],
                 "fingerprint": result.fingerprint},
        **result.further,
        "seconds": result.seconds,
        "peak_memory_mib": peak_memory_mib(),
    }, folder / "metrics.json")
    pictures.draw_scores(result, folder / "scores.png")
    exported = suspects.write(result, folder)
    html.write(result, folder / "report.html", settings=settings, show=show)
    return ["scores.csv", *exported, "metrics.json", "scores.png", "report.html"]


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each row, 1 = highest score; equal scores in the order of the rows."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return rank


def _columns(result: Result) -> dict[str, list | np.ndarray]:
    samples, score = result.samples, result.relation_score.numpy()
    predicted = samples.probs.argmax(1)
    columns: dict[str, list | np.ndarray] = {
        "index": samples.index.numpy(),
        "id": list(samples.ids) if samples.ids is not None else samples.index.numpy()}
    if samples.labels is not None:
        given = samples.labels
        columns |= {"given_label": given.numpy(), "predicted_label": predicted.numpy(),
                    "given_label_prob": samples.probs.gather(1, given[:, None])[:, 0]
                    .float().numpy()}
    else:
        columns["predicted_label"] = predicted.numpy()
    columns |= {"relation_score": score, "rank": ranks(score)}
    columns |= {name: values.numpy() for name, values in result.columns.items()}
    if result.truth is not None:
        columns[result.truth] = getattr(samples, result.truth).numpy()
    columns |= samples.extra
    if result.beyond is not None:
        beyond = result.beyond
        columns |= {name: values.numpy() for name, values in beyond.columns.items()}
        columns |= {"auto_score": beyond.auto.numpy(), "auto_rank": ranks(beyond.auto.numpy()),
                    "suggested_label": beyond.suggested_labels.numpy()}
    return columns


def _rows(columns) -> Iterator[tuple[str, ...]]:
    """Text of each row; a float32 is written with the digits that give it back exactly.

    Lists are of the data's own text, arrays of numbers.
    """
    step = 65536
    columns = list(columns)
    for start in range(0, len(columns[0]), step):
        parts = [column[start:start + step] for column in columns]
        yield from zip(*(part.astype(str) if isinstance(part, np.ndarray) else map(cell, part)
                         for part in parts))


