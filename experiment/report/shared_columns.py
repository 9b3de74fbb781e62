"""The columns that several tables of a report share: one name, one meaning in every file.

A table's own columns, in order, stand in its file: scores.py, suspects.py, judged.py.

    index             row number in the data
    id                file name or the like; the row number where there is none
    given_label, predicted_label, suggested_label, new_label   numbers of classes
    given_name, predicted_name, suggested_name, new_name       what these classes are called
    rank              by relation_score, 1 = most suspect
    auto_rank         by auto_score
    suspect_rank      by the score that suspects are listed by
    outlier_score     higher = more outlying; is_outlier at the false-alarm rate in metrics.json
    copy_of           the training row that a test row is a copy of, -1 for none
    duplicate_group   number of the group of copies, -1 for none; is_conflict: of several labels
    decision          about a reviewed row: keep or relabel, whose labels are then the new ones
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from experiment.inputs.samples import Samples
from experiment.run.result import Result

Column = list | np.ndarray  # lists hold the data's own text, arrays hold numbers


def identity(samples: Samples) -> dict[str, Column]:
    """index and id."""
    index = samples.index.numpy()
    return {"index": index, "id": index if samples.ids is None else list(samples.ids)}


def labelled(samples: Samples, word: str, labels: Tensor) -> dict[str, np.ndarray]:
    """<word>_label, and <word>_name where the classes have names."""
    columns = {f"{word}_label": labels.to(torch.int64).numpy()}
    if samples.class_names is not None:
        columns[f"{word}_name"] = texts(samples.class_names)[labels.numpy()]
    return columns


def whole_set(result: Result) -> dict[str, np.ndarray]:
    """Outliers and copies of a labelled set, or copies of training rows; where looked for."""
    whole = result.whole_set
    if result.leakage is not None:
        rows, index = result.leakage.rows.numpy(), result.train.index.numpy()
        return {"copy_of": np.where(rows < 0, -1, index[rows])}
    if whole is None:
        return {}
    columns = {"outlier_score": whole.outliers.scores.numpy(),
               "is_outlier": whole.outliers.is_outlier.numpy()}
    if whole.copies is not None:
        columns |= {"duplicate_group": whole.copies.groups.numpy(),
                    "is_conflict": whole.is_conflict.numpy()}
    return columns


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each row, 1 = highest score; equal scores in the order of the rows."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return rank


def texts(values: Iterable[str]) -> np.ndarray:
    """Texts as an array of objects; bytes that are not UTF-8 as escapes."""
    return np.array([value.encode("utf-8", "backslashreplace").decode() for value in values],
                    dtype=object)
