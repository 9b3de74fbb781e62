"""The rows as other tools for data load them: suspects.csv, and suspects.parquet with pyarrow.

One line for each row, the most suspect first; the columns are described in the README. A CSV file
is opened in spreadsheets, which run what looks like a formula: such text gets an apostrophe in
front there (and only there; numbers stay as they are).
"""

import csv
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas
import torch
from torch import Tensor

from experiment.command.escaping import cell
from experiment.files import writing
from experiment.inputs.samples import Samples
from experiment.run.result import Result

CSV, PARQUET = "suspects.csv", "suspects.parquet"


def write(result: Result, folder: Path) -> list[str]:
    """Write the files to `folder`; returns their names."""
    frame = table(result)
    with writing.replacing(folder / CSV) as temporary:
        texts = frame.select_dtypes(exclude=["number", "bool"])
        safe = frame.assign(**{name: texts[name].map(cell) for name in texts})
        # All text in quotes: pandas leaves them out around a lone carriage return.
        safe.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n",
                    quoting=csv.QUOTE_NONNUMERIC)
    if importlib.util.find_spec("pyarrow") is None:
        (folder / PARQUET).unlink(missing_ok=True)  # of an earlier run: other numbers
        return [CSV]
    # An open file: pyarrow takes no path that is not UTF-8.
    with writing.replacing(folder / PARQUET) as temporary, open(temporary, "wb") as file:
        frame.to_parquet(file, engine="pyarrow", index=False)
    return [CSV, PARQUET]


def table(result: Result) -> pandas.DataFrame:
    """The rows by falling suspicion, as the screen and report.html list them."""
    samples = result.samples
    name, scores = result.listed_by
    order = result.most_suspect(len(samples)).numpy()
    names = map(str, samples.index.tolist() if samples.ids is None else samples.ids)
    columns = {"index": samples.index.numpy(), "name": _texts(names),
               **{name: _texts(texts) for name, texts in samples.content.items()}}
    if samples.labels is None:
        columns |= {"predicted_label": _called(samples, samples.probs.argmax(1)),
                    "outlier_score": scores.numpy()}
    else:
        columns |= _label_columns(result, order)
        columns["label_score"] = (1 - scores if name == "auto" else (1 - scores) / 2) \
            .clamp(0, 1).double().numpy()
    frame = pandas.DataFrame(columns).iloc[order]
    frame.insert(1, "rank", np.arange(1, len(order) + 1))
    return frame


def _label_columns(result: Result, order: np.ndarray) -> dict[str, np.ndarray]:
    """In the words of cleanlab."""
    samples, beyond = result.samples, result.beyond
    predicted = samples.probs.argmax(1) if beyond is None else beyond.suggested_labels
    return {"given_label": _called(samples, samples.labels),
            "predicted_label": _called(samples, predicted),
            "is_label_issue": label_issues(result, order)}


def label_issues(result: Result, order: np.ndarray) -> np.ndarray:
    """Which rows are estimated to be wrong (N,) bool; `order` (N,): rows by falling suspicion.

    As many as are estimated to be wrong, of those for which another label is suggested; without
    that estimate the noisy set of the relation.
    """
    if result.beyond is None:
        return result.relation_score.numpy() > result.noise_threshold
    replaced = order[(result.beyond.suggested_labels != result.samples.labels).numpy()[order]]
    is_issue = np.zeros(len(order), dtype=bool)
    is_issue[replaced[:result.further["estimated_wrong"]]] = True
    return is_issue


def _called(samples: Samples, labels: Tensor) -> np.ndarray:
    """Class names (N,) where there are any, else numbers."""
    if samples.class_names is None:
        return labels.to(torch.int64).numpy()
    return _texts(samples.class_names)[labels.numpy()]


def _texts(values: Iterable[str]) -> np.ndarray:
    """Texts as an array of objects; a name of bytes that are not UTF-8 with these as escapes."""
    return np.array([value.encode("utf-8", "backslashreplace").decode() for value in values],
                    dtype=object)
