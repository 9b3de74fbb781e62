"""The one place that prints and writes results: table, suspects, scores.csv, metrics.json."""

import csv
import importlib.metadata
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiment import export, pictures, store
from experiment.escaping import cell, printable
from experiment.page import html
from experiment.result import Result

LISTED = 20  # suspects shown on screen
WIDEST = 24  # characters of a class name there
LIBRARIES = ("torch", "numpy", "scikit-learn")


def write(result: Result, folder: Path, settings: dict[str, Any], *, show: int | None = None
          ) -> list[str]:
    """scores.csv, metrics.json, scores.png, report.html and the export under `folder`.

    Returns the names of the files. `show`: suspects that the page shows with media and evidence;
    None: a handy number.
    """
    with store.replacing(folder / "scores.csv") as temporary, \
            open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns := _columns(result))
        table.writerows(_rows(columns.values()))
    store.save_json({
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
    exported = export.write(result, folder)
    html.write(result, folder / "report.html", settings=settings, show=show)
    return ["scores.csv", *exported, "metrics.json", "scores.png", "report.html"]


def show(result: Result, folder: Path, files: list[str], *, verbose: bool) -> None:
    """Print notes, metrics table, the most suspect rows, and where the written files are."""
    samples = result.samples
    print(f"{printable(samples.source)}: rows {len(samples):,}, features "
          f"{samples.features.shape[1]:,}, classes {samples.probs.shape[1]:,}")
    for note in result.notes:
        print(f"note: {printable(note)}")
    if result.beyond is not None:
        print(*result.beyond.statement, sep="\n")
    if result.metrics:
        print()
        _print_metrics(result.metrics, *result.words)
    else:
        print("note: no truth in the data, so nothing to evaluate; scores and ranks are written")
    print()
    _print_suspects(result)
    if verbose:
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
        print(f"\n{seconds}; peak memory {peak_memory_mib():,} MiB")
    print(f"\nwritten to {printable(str(folder))}: {', '.join(files)}")


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each row, 1 = highest score; equal scores in the order of the rows."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return rank


def peak_memory_mib() -> int:
    """Largest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


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


def _print_metrics(rows: list[dict], negative: str, positive: str) -> None:
    grouped = len({row["group"] for row in rows}) > 2  # a single set would repeat "all"
    rows = rows if grouped else [row for row in rows if row["group"] == "all"]
    width = max(len(row["name"]) for row in rows)
    head = "group         " * grouped + "score".ljust(width)
    print(f"{head}   AUROC      AP   TNR95   FPR95*")
    for row in rows:
        figures = "".join("       -" if row[key] is None else f"  {row[key]:6.3f}"
                          for key in ("auroc", "ap", "tnr95", "fpr95"))
        print(f"{printable(row['group']):14}" * grouped + row["name"].ljust(width) + figures)
    print(f"TNR95: {negative} rows passed where 95 % of the {positive} ones are found (higher is "
          f"better).\n*FPR95: {positive} rows passed where 95 % of the {negative} ones pass (lower "
          f"is better).")


def _print_suspects(result: Result) -> None:
    samples, order, (name, score) = result.samples, result.most_suspect(LISTED), result.listed_by
    labels = {} if samples.labels is None else {"given": samples.labels}
    if result.beyond is None:
        labels["predicted"] = samples.probs.argmax(1)
    else:
        labels["suggested"] = result.beyond.suggested_labels
    texts = zip(*(_padded([word, *map(samples.class_name, numbers[order])])
                  for word, numbers in labels.items()))
    print(f"the {len(order)} most suspect rows, by {name} "
          f"({'auto_rank' if name == 'auto' else 'rank'} in scores.csv)")
    print(f" rank    index     score  {'  '.join(next(texts))}  {result.truth or ''}".rstrip())
    for rank, (row, words) in enumerate(zip(order.tolist(), texts), 1):
        truth = "" if result.truth is None else \
            "  yes" if getattr(samples, result.truth)[row] else "  no "
        name = "" if samples.ids is None else f"  {printable(samples.ids[row])}"
        print(f"{rank:5}  {int(samples.index[row]):7}  {float(score[row]):8.4g}  "
              f"{'  '.join(words)}{truth}{name}".rstrip())


def _padded(names: list[str]) -> list[str]:
    """All as wide as the widest, which is cut where it is too wide for a column."""
    names = [printable(name) for name in names]
    width = min(max(map(len, names)), WIDEST)
    return [(name if len(name) <= width else name[:width - 1] + "…").ljust(width)
            for name in names]
