"""Features in a table (.csv, .tsv or .parquet), or in .npy files beside one another.

A table has numbered columns, such as f0 … f767, 0 … 767 or emb_1 … emb_768, or one column of lists,
and likewise logits or probabilities; a column of labels; and, where known, is_noisy, is_ood, group
and id. Other columns are not read. Capitals do not count in names.

All values of a CSV file are held as text: about 60 bytes each.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs import given_labels, tables

TABLES = (".csv", ".tsv", ".parquet")
# What columns and .npy files may be called; the first that is there counts.
NAMES = {
    "features": ("features", "feature", "feats", "feat", "embeddings", "embedding", "emb", "x"),
    "logits": ("logits", "logit"),
    "probs": ("probs", "prob", "pred_probs", "probabilities", "probability", "proba"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "is_noisy": ("is_noisy", "noise"), "is_ood": ("is_ood",), "group": ("group",),
    "ids": ("ids", "id")}
ARRAYS = ("features", "feat", "embeddings", "embedding", "X")  # .npy files of features
BESIDE = ("logits", "logit", "probs", "prob", "pred_probs", "probabilities", "labels", "label",
          "targets", "y", "is_noisy", "noise", "is_ood", "group", "ids", "class_names")
MATRICES = ("features", "logits", "probs")
NUMBERED = re.compile(r"(.*?)[_ -]?(\d{1,6})")
NUMBER = re.compile(r"[+-]?\d{1,9}")
SHORT = {"features": ("", "f"), "logits": (), "probs": ("p",)}  # before a number alone
FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def columns_of(path: Path, known: Sequence[str]) -> dict[str, str | list[str]]:
    """Which columns of a table hold what: a column, or the numbered ones in their order.

    Raises InputError for numbers with gaps.
    """
    spelled = {name.strip().casefold(): name for name in reversed(known)}
    found: dict[str, str | list[str]] = {}
    for meaning, names in NAMES.items():
        column = next((spelled[name] for name in names if name in spelled), None)
        numbered = _numbered(path, known, (*names, *SHORT[meaning])) \
            if column is None and meaning in MATRICES else []
        if column is not None or numbered:
            found[meaning] = column if column is not None else numbered
    return found


def _numbered(path: Path, known: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that are called by one of the names and a number, in the order of these."""
    series: dict[str, dict[int, str]] = {}
    for column in known:
        matched = NUMBERED.fullmatch(column.strip().casefold())
        if matched and matched[1] in names:
            series.setdefault(matched[1], {})[int(matched[2])] = column
    if not series:
        return []
    columns = max(series.values(), key=len)
    if sum(len(other) == len(columns) for other in series.values()) > 1:
        raise InputError(f"{path}: expected one series of columns, got "
                         f"{' and '.join(min(one.values()) for one in series.values())}, …")
    order = sorted(columns)
    gap = next((number for number in range(order[0], order[-1]) if number not in columns), None)
    if gap is not None or order[0] > 1:
        raise InputError(f"{path}: expected columns numbered from 0 or 1 on, got "
                         f"{columns[order[0]]!r} to {columns[order[-1]]!r} without "
                         f"{0 if gap is None else gap}")
    return [columns[number] for number in order]


def read(path: Path) -> dict[str, Any]:
    """The entries of a table by their proper names: arrays and lists of text.

    Raises InputError for a table that cannot be read, and for what is no number where one belongs.
    """
    numbers: Callable[[str], np.ndarray]
    if path.suffix == ".parquet":
        parquet = tables.read_parquet(path)
        known, values = parquet.column_names, lambda name: parquet[name].to_pylist()
        numbers = partial(_of_parquet, path, parquet)
    else:
        table = tables.read(path)
        known, values = table.columns, table.values
        numbers = partial(_of_text, path, table)
    entries: dict[str, Any] = {}
    for meaning, columns in columns_of(path, known).items():
        if isinstance(columns, list):
            parts = [numbers(name) for name in columns]
            if any(part.ndim > 1 for part in parts):
                raise InputError(f"{path}: {meaning}: expected one column of lists, or numbered "
                                 f"ones of numbers, got {len(columns)} of lists")
            entries[meaning] = np.stack(parts, 1)
        elif meaning in MATRICES:
            entries[meaning] = numbers(columns)
        else:
            entries[meaning] = _others(path, meaning, columns, values(columns))
    return entries


def _of_parquet(path: Path, table: Any, name: str) -> np.ndarray:
    """A column (N,), or (N, D) of lists. Of numbers that lack, NaN stands for them."""
    import pyarrow
    from pyarrow import compute

    column = table[name].combine_chunks()
    kind = column.type
    width: tuple[int, ...] = ()
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) \
            or pyarrow.types.is_fixed_size_list(kind):
        lengths = compute.list_value_length(column).to_pylist()
        wrong = next((row for row, length in enumerate(lengths) if length != lengths[0]), None)
        if wrong is not None or None in lengths:
            raise InputError(f"{path}: column {name!r}: expected lists of one length, got "
                             f"{lengths[0]} and {lengths[wrong or 0]} in row {wrong or 0}")
        width = (lengths[0],) if lengths else (0,)
        column = column.flatten()
    if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)):
        raise InputError(f"{path}: column {name!r}: expected numbers, or lists of them, got {kind}")
    found = column.to_numpy(zero_copy_only=False)
    kind = found.dtype if found.dtype.kind == "f" else np.float32
    return np.array(found, kind).reshape(len(table), *width)  # a copy that may be written to


def _of_text(path: Path, table: tables.Table, name: str) -> np.ndarray:
    """A column (N,), or (N, D) of lists as Python or numpy writes them."""
    texts = table.values(name)
    lists = bool(texts) and (texts[0] or "").lstrip().startswith("[")
    rows: list[Any] = []
    for row, text in enumerate(texts):
        try:
            if lists:
                if text.count("[") != 1 or not text.strip().startswith("["):
                    raise ValueError
                rows.append(np.array(text.strip()[1:].removesuffix("]").replace(",", " ").split(),
                                     np.float32))
            else:
                rows.append(float(text))
        except (AttributeError, TypeError, ValueError) as error:
            expected = "a list of numbers" if lists else "a number"
            raise InputError(f"{path}: column {name!r}: expected {expected}, got {text!r:.80} in "
                             f"row {row}") from error
        if lists and len(rows[-1]) != len(rows[0]):
            raise InputError(f"{path}: column {name!r}: expected lists of one length, got "
                             f"{len(rows[0])} and {len(rows[-1])} in row {row}")
    return np.array(rows, np.float32)


def _others(path: Path, meaning: str, column: str, values: Sequence[Any]) -> Any:
    if meaning == "labels":
        labels = given_labels.read(str(path), values)
        if "" in labels:
            raise InputError(f"{path}: column {column!r}: no label in row {labels.index('')}; "
                             f"leave such rows out")
        return np.array(list(map(int, labels))) if all(map(NUMBER.fullmatch, labels)) else labels
    texts = list(map(tables.text_of, values))
    if meaning not in ("is_noisy", "is_ood"):
        return texts
    wrong = next((row for row, text in enumerate(texts) if text.casefold() not in FLAGS), None)
    if wrong is not None:
        raise InputError(f"{path}: column {column!r}: expected True or False, got "
                         f"{texts[wrong]!r:.80} in row {wrong}")
    return np.array([FLAGS[text.casefold()] for text in texts])


def read_beside(path: Path) -> dict[str, np.ndarray]:
    """The array of a .npy file called after features, and those called alike of the same folder:
    train_features.npy, train_labels.npy, train_probs.npy.

    Raises InputError for another name, and for a file that cannot be read.
    """
    _, key, _ = _around(path)
    files = {name: path.with_name(file_of(path, name)) for name in (key, *BESIDE)}
    return {name: reading.load_npy(file) for name, file in files.items() if file.is_file()}


def file_of(path: Path, key: str) -> str:
    """The name of the file of an entry that `read_beside` found."""
    before, _, after = _around(path)
    return f"{before}{key}{after}.npy"


def _around(path: Path) -> tuple[str, str, str]:
    """The name of a .npy file before the word for features, this word, and what follows."""
    parts = re.split(r"([_. -])", path.stem)
    at = next((at for at, part in enumerate(parts) if part in ARRAYS), None)
    if at is None:
        raise InputError(f"{path}: expected features.npy, with labels.npy and probs.npy beside it "
                         f"(or train_features.npy, train_labels.npy and train_probs.npy), or one "
                         f"file: numpy.savez(\"train.npz\", features=…, probs=…, labels=…)")
    return "".join(parts[:at]), parts[at], "".join(parts[at + 1:])
