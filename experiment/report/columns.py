"""The columns that the tables of a report share: one name, one meaning in every file.

    index             row number in the data
    id                file name or the like; the row number where there is none
    given_label, predicted_label, suggested_label, new_label   numbers of classes
    given_name, predicted_name, suggested_name, new_name       what these classes are called
    rank              by relation_score, 1 = most suspect
    auto_rank         by auto_score
    suspect_rank      by the score that suspects are listed by
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiment.command.escaping import cell
from experiment.files import writing
from experiment.inputs.samples import Samples

Column = list | np.ndarray  # lists hold the data's own text, arrays hold numbers
ROWS_AT_A_TIME = 65536  # of a CSV file: their text is held in memory


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


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each row, 1 = highest score; equal scores in the order of the rows."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return rank


def texts(values: Iterable[str]) -> np.ndarray:
    """Texts as an array of objects; a name of bytes that are not UTF-8 with these as escapes."""
    return np.array([value.encode("utf-8", "backslashreplace").decode() for value in values],
                    dtype=object)


def write_csv(path: Path, columns: Mapping[str, Column]) -> None:
    """Write the columns, whole or not at all."""
    with writing.replacing(path) as temporary, \
            open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(_rows(list(columns.values())))


def _rows(columns: list[Column]) -> Iterator[tuple[str, ...]]:
    """Text of each row; a float32 is written with the digits that give it back exactly."""
    for start in range(0, len(columns[0]), ROWS_AT_A_TIME):
        parts = [column[start:start + ROWS_AT_A_TIME] for column in columns]
        yield from zip(*(part.astype(str) if isinstance(part, np.ndarray) else map(cell, part)
                         for part in parts))
