"""The user's own images, texts and sounds: which rows can be used, their classes, their Samples.

A domain lists `Rows`, drops those that it cannot read, and computes features of the others;
`labelled_samples` makes Samples of them. Probabilities are those of the network's own head if it
fits the classes, or else of cross-validated logistic regression. Row numbers count the rows of the
user's data from 0, including rows that are left out.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.command.escaping import plain, printable
from experiment.inputs import given_labels, own_head, probe, tables
from experiment.inputs.own_head import OwnHead
from experiment.inputs.samples import DROP, DROPPED, LeftOut, Reviewed, Samples, probs_of

NAMED = 5  # rows or classes listed in a note; metrics.json has every left-out row

# The first that is there counts; filepath and given_name are those of suspects.csv.
PATH_COLUMNS = ("path", "filepath", "file_path", "filename", "file_name", "file", "image",
                "image_path", "audio", "audio_path")
LABEL_COLUMNS = ("label", "given_name", "given_label")


PathColumns = tuple[str | None, str | None]  # the names of a table's columns of paths and labels


@dataclass(frozen=True)
class Rows:
    """The n rows that can be used, as far as is known, and those that cannot."""

    source: str  # file or folder
    index: tuple[int, ...]  # (n,) row numbers in the data, ascending
    names: tuple[str, ...]  # (n,) for display
    labels: tuple[str, ...]  # (n,)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    reviewed: tuple[Reviewed, ...] = ()  # the labels are the new ones

    @classmethod
    def of(cls, source: str, names: Sequence[str], labels: Sequence[str], **known: Any) -> "Rows":
        """All rows of the data; those without a label are dropped."""
        labels = tuple(map(given_labels.same_form, labels))
        rows = cls(source, tuple(range(len(names))), tuple(names), labels, **known)
        return rows.drop({row: "no label" for row, label in enumerate(labels) if not label})

    def drop(self, reasons: Mapping[int, str]) -> "Rows":
        """The rows without those in `reasons`, row number -> why. InputError if none is left."""
        if not reasons:
            return self
        kept = [at for at, row in enumerate(self.index) if row not in reasons]
        gone = [LeftOut(row, name, reasons[row])
                for row, name in zip(self.index, self.names) if row in reasons]
        if not kept:
            raise InputError(f"{self.source}: none of {len(self.index)} rows can be used: "
                             f"{_text_of(gone[0])}")
        return replace(self, **{name: tuple(getattr(self, name)[at] for at in kept)
                                for name in ("index", "names", "labels")},
                       left_out=tuple(sorted((*self.left_out, *gone))))

    def numbered(self) -> tuple[Tensor, tuple[str, ...]]:
        """Labels (n,) as numbers, and the class names; sorted, as numbers where they all are."""
        whole = all(re.fullmatch(r"-?\d{1,9}", label) for label in self.labels)
        names = sorted(set(self.labels), key=int if whole else str)
        number = {name: at for at, name in enumerate(names)}
        return torch.tensor([number[label] for label in self.labels]), tuple(names)


def class_names_of(id2label: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Names by column, as a config of transformers has them; None if they are LABEL_0, LABEL_1, …
    """
    names = tuple(str(id2label[column]) for column in sorted(id2label, key=int))
    return None if not names or names[0].startswith("LABEL_") else names


def labelled_samples(rows: Rows, features: Tensor, own: OwnHead | None, *, progress: bool,
                     labels_matter: bool = True, **known: Any) -> Samples:
    """Samples of n rows with features (n, D); `known` holds further fields.

    If the head `own` does not fit these classes, probabilities come from the probe, and weight and
    bias are those of its fit to all rows. Raises InputError if most rows are the only ones of their
    class, and, with `labels_matter`, for a single class (enough to find outliers).
    """
    rows, features, own, known = _without_dropped(rows, features, own, known)
    labels, names = rows.numbered()
    but = "".join(f"; {note}" for note in _missing(rows))
    if labels_matter and len(names) == 1:
        raise InputError(f"{rows.source}: expected at least two classes, got only "
                         f"{names[0]!r}{but}")
    lonely = int((labels.bincount() == 1).sum())
    if 2 * lonely > max(len(labels), 2):
        raise InputError(f"{rows.source}: {lonely} of {len(labels)} rows have a class of "
                         f"their own ({abbreviated([repr(name) for name in names])}): is this "
                         f"the label column?{but}")
    matched, verdict = own_head.match(own, labels, names)
    out_of_sample, head = "", None
    if matched is not None:
        logits, names, labels = matched
        probs, head = probs_of(logits), own.head
        features = features if own.features is None else own.features
        notes = [f"probabilities: the network's own head ({verdict})"]
    else:
        probs, head, out_of_sample = _probed(features, labels, len(names), progress=progress)
        logits = None
        notes = [f"probabilities: {out_of_sample} ({verdict})"]
    notes += notes_of(rows)
    if head is not None:
        known = dict(weight=head.weight, bias=head.bias) | known
    return Samples(
        source=rows.source, features=features, probs=probs, logits=logits, labels=labels,
        class_names=names, ids=rows.names, index=torch.tensor(rows.index), own_data=True,
        out_of_sample=out_of_sample, left_out=rows.left_out, reviewed=rows.reviewed,
        notes=tuple(notes), **known)


def _without_dropped(rows: Rows, features: Tensor, own: OwnHead | None, known: dict[str, Any]
                     ) -> tuple[Rows, Tensor, OwnHead | None, dict[str, Any]]:
    """All of it without the rows that are to be dropped: no fit learns from them."""
    gone = {row.index for row in rows.reviewed if row.decision == DROP} & {*rows.index}
    if not gone:
        return rows, features, own, known
    kept = [at for at, row in enumerate(rows.index) if row not in gone]
    if own is not None:
        own = own._replace(logits=own.logits[kept],
                           features=None if own.features is None else own.features[kept])
    content = {name: [texts[at] for at in kept]
               for name, texts in known.get("content", {}).items()}
    return (rows.drop(dict.fromkeys(gone, DROPPED)), features[kept], own,
            known | {"content": content})


class PathTable(NamedTuple):
    """A table, and what its columns of paths and of labels are called."""

    table: tables.Table
    paths: str
    labels: str
    notes: tuple[str, ...] = ()


def path_table(path: Path, named: PathColumns = (None, None)) -> PathTable:
    """A table of paths, with the columns that the user `named`, or else usual ones.

    Capitals and spaces around names do not count. A table of two columns whose first row names a
    file has no header. Raises InputError for a table that cannot be read, or without such columns
    or any row.
    """
    table, notes = tables.read(path, blank_rows=True), ()
    order = () if any(named) else _without_header(path, table.columns)
    if order:
        table = tables.read(path, blank_rows=True, names=order)
        notes = (f"the table has no header: its columns are taken as {' and '.join(order)}",)
    choices = [(name,) if name else usual
               for name, usual in zip(named, (PATH_COLUMNS, LABEL_COLUMNS))]
    found = [find_column(table.columns, names) for names in choices]
    missing = [name or usual for name, usual, column in zip(named, ("path", "label"), found)
               if column is None]
    if missing:
        raise InputError(f"{path}: no column {' and '.join(missing)}; found "
                         f"{', '.join(table.columns) or 'none'} (expected the header path,label, "
                         f"or other names as --path_column and --label_column)")
    if not table.values(found[0]):
        raise InputError(f"{path}: expected at least one row below the header, got none")
    return PathTable(table, found[0], found[1], notes)


def find_column(known: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the names that is there, as it is spelled there; capitals and spaces around it
    count only to tell columns apart."""
    spelled = {name.strip().casefold(): name for name in reversed(known)}
    return next((name if name in known else spelled[name.strip().casefold()] for name in names
                 if name in known or name.strip().casefold() in spelled), None)


def _without_header(path: Path, first_row: Sequence[str]) -> tuple[str, ...]:
    """The names of the two columns of a table whose first row names a file, or ()."""
    if len(first_row) != 2 or find_column(first_row, (*PATH_COLUMNS, *LABEL_COLUMNS)):
        return ()
    orders = (("path", "label"), ("label", "path"))
    return next((order for order in orders if _is_file(
        _file(path.absolute().parent, first_row[order.index("path")]))), ())


def files_of_table(path: Path, named: PathColumns = (None, None)) -> tuple[list[Path], Rows]:
    """The files in a table, relative to its folder, and the rows whose files exist."""
    found = path_table(path, named)
    written = list(map(plain, found.table.texts(found.paths)))
    labels = given_labels.read(str(path), found.table.values(found.labels))
    folder = path.absolute().parent
    files = [_file(folder, name) for name in written]
    rows = Rows.of(str(path), written, labels, notes=found.notes)
    return files, rows.drop({row: "no such file" if written[row] else "no path"
                             for row in rows.index if not _is_file(files[row])})


def _file(folder: Path, name: str) -> Path:
    """The file of this name, in whatever Unicode form the disk has it, and with / for \\."""
    spelled = [name, name.replace("\\", "/")]  # the latter if it was written on Windows
    forms = [unicodedata.normalize(form, text) for text in spelled for form in ("NFC", "NFD")]
    different = dict.fromkeys([*spelled, *forms])  # mostly one
    return next(filter(_is_file, (folder / text for text in different)), folder / name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a name can be, or of a zero byte
        return False


def stamps_of(files: Sequence[Path]) -> str:
    """Digest of names, sizes and modification times, which stand for the contents, as in make."""
    digest = hashlib.sha256()
    for path in files:
        try:
            status = path.stat()
            fact = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:  # a broken link, reported when it is read
            fact = f"{path}\n"
        digest.update(os.fsencode(fact))
    return digest.hexdigest()


def notes_of(rows: Rows) -> tuple[str, ...]:
    """Notes for the report: those of the rows, and which rows were left out."""
    return (*rows.notes, *_missing(rows))


def _missing(rows: Rows) -> list[str]:
    """One note on which rows were left out and why; none if all are there."""
    listed = [_text_of(row) for row in rows.left_out]
    verb = "is" if len(listed) == 1 else "are"
    return [f"{len(listed)} of {len(listed) + len(rows.index)} rows {verb} left out "
            f"({abbreviated(listed, '; ')})"] if listed else []


def abbreviated(texts: Sequence[str], separator: str = ", ") -> str:
    """The first texts, and how many more there are."""
    more = len(texts) - NAMED
    return separator.join(texts[:NAMED]) + (f"{separator}and {more} more" if more > 0 else "")


def _text_of(row: LeftOut) -> str:
    return printable(f"row {row.index}{', ' if row.name else ''}{row.name}: {row.reason}")


def _probed(features: Tensor, labels: Tensor, classes: int, *, progress: bool
            ) -> tuple[Tensor, probe.Head, str]:
    if classes == 1:  # outliers from a single class: every probability is 1
        only = probe.Head(torch.zeros(1, features.shape[1]), torch.zeros(1))
        return torch.ones(len(labels), 1), only, "1, as there is a single class"
    found = probe.cross_validate(features, labels, classes, progress=progress)
    head = probe.fit_head(features, labels, classes, found.strength)
    return found.probs, head, (f"logistic regression on frozen features, {found.folds}-fold "
                               f"cross-validated")
