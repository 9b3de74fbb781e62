"""A table of paths or of texts as what is to be cleaned."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiment.cleaning.plan import Data, Plan
from experiment.command.errors import InputError
from experiment.files import packed
from experiment.inputs import given_labels, tables
from experiment.inputs.own_data import PathColumns, Rows, path_table


def of_paths(path: Path, rows: Rows, named: PathColumns = (None, None)) -> Data:
    """A table with columns of paths and labels, relative paths from its folder, and its rows as
    `own_data.files_of_table` found them."""
    table, paths, label, _ = path_table(path, named)
    return _data(path, table, rows, label, paths=paths)


def of_texts(path: Path, table: tables.Table, rows: Rows, label_column: str,
             texts: Sequence[tuple[str, ...]]) -> Data:
    """A table of texts (N,), each of one column or two, and its rows as language.own read them."""
    return _data(path, table, rows, label_column, texts=[" | ".join(text) for text in texts])


def _data(path: Path, table: tables.Table, rows: Rows, label_column: str, *,
          paths: str | None = None, texts: Sequence[str] | None = None) -> Data:
    """InputError where the table, read twice, is not the same: its rows would be mixed up."""
    labels = given_labels.read(str(path), table.values(label_column))
    names = dict(zip(rows.index, rows.names)) | {row.index: row.name for row in rows.left_out}
    differ = [row for row, label in zip(rows.index, rows.labels)
              if row >= len(labels) or labels[row] != label]
    if differ or len(names) != len(labels):
        raise InputError(f"{path}: expected rows that can be told apart for sure, got "
                         f"{len(names)} rows or {len(labels)}, first at row "
                         f"{differ[0] if differ else min(len(names), len(labels))}; is a quotation "
                         f"mark missing, or a column there twice?")
    return Data(path, [names[row] for row in range(len(labels))], labels, texts,
                write=partial(_write, path, table, label_column, paths))


def _write(path: Path, table: tables.Table, label_column: str, paths: str | None, folder: Path,
           plan: Plan) -> tuple[list[str], list[str]]:
    changes = {label_column: plan.labels}
    if paths is not None:
        base = base_of(path.absolute().parent, folder)
        written = [text.strip() for text in table.texts(paths)]
        changes[paths] = {row: os.path.join(base, written[row]) for row in plan.kept
                          if written[row] and not os.path.isabs(written[row])}
    name = packed.plain_name(path)
    table.write(folder / name, plan.kept, changes)
    return [name], []


def base_of(source: Path, folder: Path) -> str:
    """The path from a folder to another, along the folders as they really lie."""
    return os.path.relpath(os.path.realpath(source), os.path.realpath(folder))
