"""Texts and labels: GLUE from the hub, or a folder with one file per split.

N texts; a text is one string, or two for tasks on pairs of sentences.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas
import torch
from torch import Tensor

from experiment.command.errors import InputError, Unavailable, reason_of
from experiment.files import packed
from experiment.inputs import given_labels, tables
from experiment.inputs.own_data import find_column

HUB = "nyu-mll/glue"
# What the hub's copy calls a split, and how files of it are named elsewhere; the first found wins.
SPLITS = {"train": ("train",),
          "validation": ("validation", "dev", "val", "validation_matched", "dev_matched")}
TEXT_COLUMNS = (("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence",), ("text",))
LABEL_COLUMNS = ("label", "gold_label", "given_name", "given_label")  # the last of suspects.csv
# Label order of the GLUE tasks: the numbers that the published files use.
CLASS_NAMES = {"sst2": ("negative", "positive"),
               "mnli": ("entailment", "neutral", "contradiction")}


class Columns(NamedTuple):
    """Names of columns in a table; None: the usual ones."""

    text: Sequence[str] | None = None  # one, or two for pairs
    label: str | None = None


USUAL = Columns()


@dataclass(frozen=True)
class Texts:
    source: str  # the file, for messages
    columns: tuple[list[str], ...]  # one list of N strings, or two
    labels: Tensor | None  # (N,) int64
    class_names: tuple[str, ...] | None  # where labels have names

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def classes(self) -> int:
        """Number of classes, as far as labels and their names tell."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def take(self, rows: Iterable[int]) -> tuple[list[str], ...]:
        """The texts of some rows, as a tokenizer takes them."""
        rows = list(rows)
        return tuple([column[row] for row in rows] for column in self.columns)

    def joined(self) -> list[str]:
        """Each row as one string."""
        return [" | ".join(row) for row in zip(*self.columns)]

    def fingerprint(self) -> str:
        """SHA-256 of the texts in their order, labels left out."""
        digest = hashlib.sha256()
        for row in zip(*self.columns):
            digest.update("\0".join((*row, "\n")).encode())
        return digest.hexdigest()


def load(task: str, split: str, folder: Path | None, *, need_labels: bool = True,
         text_columns: Sequence[str] | None = None, label_column: str | None = None,
         class_names: Sequence[str] | None = None) -> Texts:
    """One split (train or validation) from `folder`, or without one from the hub.

    Labels may be integers or names. Names become numbers in the order of the task (sst2, mnli), of
    `class_names`, or else sorted. Without `need_labels` a file need not have any.

    Raises InputError for a missing split, column, text or label, and for a label that does not
    fit; Unavailable where the hub gives nothing.
    """
    if text_columns and len(text_columns) > 2:
        raise InputError(f"--text_columns: expected one column, or two for pairs, got "
                         f"{len(text_columns)}")
    if folder is None:
        source, table = f"{HUB} {task} {split}", _from_hub(task, split)
    else:
        source, table = _from_folder(folder, split)
    if len(table) == 0:
        raise InputError(f"{source}: expected at least one row, got none")
    known = tuple(str(name) for name in table.columns)
    names = choose(source, known, "--text_columns",
                    [text_columns] if text_columns else TEXT_COLUMNS)
    columns = tuple(_strings(source, name, table[name]) for name in names)
    class_names = class_names or CLASS_NAMES.get(task)
    usual = [label_column] if label_column else LABEL_COLUMNS
    if not need_labels and find_column(known, usual) is None:
        return Texts(source, columns, None, class_names)
    name, = choose(source, known, "--label_column", [(column,) for column in usual])
    labels, class_names = _labels(source, table[name], class_names)
    return Texts(source, columns, labels, class_names)


def has_split(split: str, folder: Path | None) -> bool:
    """Whether `load` would find a split; the hub has them all."""
    return folder is None or bool(_files(folder, split))


def find_folder(task_folder: Path, data_dir: Path | None) -> Path | None:
    """Where texts lie: --data_dir, or data/ in the task's folder; None where only the hub is left.
    """
    if data_dir is None and (task_folder / "data").is_dir():
        return task_folder / "data"
    return data_dir


def _from_hub(task: str, split: str) -> pandas.DataFrame:
    if task not in CLASS_NAMES:
        raise InputError(f"--task_name {task}: no texts; give a folder with train.tsv, .csv, "
                         f".parquet, .json or .jsonl as --data_dir (only "
                         f"{', '.join(CLASS_NAMES)} are fetched)")
    import datasets  # takes seconds, and only the hub needs it

    if task == "mnli" and split == "validation":
        split = "validation_matched"
    try:
        return datasets.load_dataset(HUB, task, split=split).to_pandas()
    except (OSError, ValueError) as error:  # no connection, offline mode, nothing in the cache
        raise Unavailable(f"{HUB} {task}: cannot be fetched ({reason_of(error)}); give its files "
                          f"with --data_dir") from error


def _from_folder(folder: Path, split: str) -> tuple[str, pandas.DataFrame]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = _files(folder, split)
    if len({path.suffix for path in found}) > 1:
        raise InputError(f"{folder}: expected one file of the {split} split, found "
                         f"{', '.join(path.name for path in found)}")
    if found:
        return str(found[0]), pandas.concat(map(read_file, found), ignore_index=True)
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    raise InputError(f"{folder}: no {split} split; expected {' or '.join(SPLITS[split])} with "
                     f"{', '.join(READERS)}, found {there}")


def _files(folder: Path, split: str) -> list[Path]:
    """The file of a split, or its parts as the hub names them (train-00000-of-00002.parquet)."""
    for stem in SPLITS[split]:
        found = [path for path in sorted(folder.glob("*")) if path.suffix in READERS
                 and re.fullmatch(rf"{stem}(-\d+-of-\d+)?", path.stem)]
        if found:
            return found
    return []


def read_file(path: Path) -> pandas.DataFrame:
    """One table by its ending. InputError for one that cannot be read."""
    ending = packed.ending_of(path)
    if ending not in READERS:
        raise InputError(f"{path}: expected a table ending in {', '.join(READERS)}, or that and "
                         f"{', '.join(packed.ENDINGS)}")
    try:
        return READERS[ending](path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable {path.suffix} table ({reason_of(error)})"
                         ) from error


def frame_of(table: tables.Table) -> pandas.DataFrame:
    """All values of a CSV or TSV table as text: "NA" and "null" are words like others."""
    return pandas.DataFrame({name: pandas.Series(table.values(name), dtype=object)
                             for name in table.columns})


def _read_separated(path: Path) -> pandas.DataFrame:
    return frame_of(tables.read(path))


def _read_parquet(path: Path) -> pandas.DataFrame:
    # Without pandas' own notes in the file, which may say anything of the columns.
    return tables.read_parquet(path).to_pandas(ignore_metadata=True)


def _read_json(path: Path) -> pandas.DataFrame:
    table = tables.read(path)
    return pandas.DataFrame({name: table.values(name) for name in table.columns})


READERS: dict[str, Callable[[Path], pandas.DataFrame]] = {
    ".tsv": _read_separated, ".csv": _read_separated, ".parquet": _read_parquet,
    ".json": _read_json, ".jsonl": _read_json}


def choose(source: str, known: Sequence[str], option: str, choices: Sequence[Sequence[str]]
            ) -> Sequence[str]:
    """The first of the choices whose columns are all there, as they are spelled there."""
    for names in choices:
        found = [find_column(known, [name]) for name in names]
        if None not in found:
            return found
    expected = ", or ".join(" and ".join(repr(name) for name in names) for names in choices)
    raise InputError(f"{source}: no column {expected}; found {', '.join(known)} "
                     f"(choose with {option})")


def _strings(source: str, name: str, values: pandas.Series) -> list[str]:
    strings = values.tolist()
    for row, value in enumerate(strings):
        if not isinstance(value, str):
            raise InputError(f"{source}: expected text in column {name!r}, got {value!r} "
                             f"in row {row}")
    return strings


def _labels(source: str, values: pandas.Series, class_names: Sequence[str] | None
            ) -> tuple[Tensor, tuple[str, ...] | None]:
    missing = values.isna() | (values.astype(str).str.strip() == "")
    if missing.any():
        raise InputError(f"{source}: no label in row {int(missing.argmax())}")
    if pandas.api.types.is_float_dtype(values):
        raise InputError(f"{source}: labels: expected whole numbers or names, got "
                         f"{values.iloc[0]} in row 0")
    texts = [given_labels.same_form(str(value).strip()) for value in values]
    if all(re.fullmatch(r"-?\d{1,9}", text) for text in texts):
        labels = torch.tensor([int(text) for text in texts])
        largest = len(class_names) - 1 if class_names else int(labels.max())
        wrong = (labels < 0) | (labels > largest)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise InputError(f"{source}: labels: expected 0 to {largest}, got {texts[row]} "
                             f"in row {row}")
        return labels, None if class_names is None else tuple(class_names)
    names = tuple(class_names or sorted(set(texts)))
    numbers = {name: number for number, name in enumerate(names)}
    for row, text in enumerate(texts):
        if text not in numbers and text.casefold() not in numbers:  # GLUE's names are lower case
            raise InputError(f"{source}: labels: expected {', '.join(names)}, got {text!r} "
                             f"in row {row}")
    return torch.tensor([numbers.get(text, numbers.get(text.casefold())) for text in texts]), names
