"""Records of a CSV or TSV file, each beside the very characters that it was written with."""

import codecs
import contextlib
import csv
import gc
import io
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from experiment.command.errors import InputError
from experiment.files import packed

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
HEAD = 100_000  # characters of the header, less than a field of the csv module may have
SEPARATORS = (",", "\t", ";", "|")
BLANK = "\r\n\t "
PLAIN = {"quoting": csv.QUOTE_NONE, "quotechar": None}  # a quotation mark is a letter like others


class Record(NamedTuple):
    line: int  # of the file, from 1, where the record begins
    raw: str  # with its line break
    fields: list[str]


def read(path: Path, **dialect: Any) -> list[Record]:
    """All records, the header too; blank lines are none.

    `dialect`: as csv.reader takes it. Raises InputError for a missing or unreadable file, and for
    a quotation mark that is opened and never closed.
    """
    return parse(path, text_of(path), dialect)


def read_table(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """The records of a table, and its dialect, by its header: fields are separated by commas, or
    else by tabs, semicolons or bars, whichever separate the header into most names."""
    text = text_of(path)
    header = next((line for line in text.removeprefix("\ufeff").splitlines() if line.strip()), "")
    if packed.ending_of(path) == ".tsv" and "\t" in header:
        return read_tabs(path)
    fields = {mark: len(next(csv.reader([header[:HEAD]], delimiter=mark), []))
              for mark in SEPARATORS}
    best = max(SEPARATORS, key=fields.get)
    mark = "," if fields[","] > 1 else best
    dialect = {} if mark == "," else {"delimiter": mark}
    return parse(path, text, dialect), dialect


def read_tabs(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """The records of a TSV file, and its dialect: with quotation marks around fields, or without.

    GLUE's files do not quote, so that a text may begin with a quotation mark; pandas quotes where a
    text holds a tab, a line break or a quotation mark. A file counts as quoted if the marks match,
    every record has as many fields as the header, and no other reading explains them: marks within
    marks are doubled, or the lines have other numbers of fields, or the header or all fields of a
    column stand in marks. InputError if most rows are quoted, but a mark lacks its other.
    """
    text = text_of(path)
    plain, quoted = {"delimiter": "\t"} | PLAIN, {"delimiter": "\t"}
    records = parse(path, text, plain)
    if any(field.startswith('"') for record in records for field in record.fields) \
            and _is_quoted(path, text, records):
        return parse(path, text, quoted), quoted
    return records, plain


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its byte order mark."""
    try:
        content = packed.content_of(path)
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        coded = " in UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(f"{path}: not a readable{path.suffix and ' '}{path.suffix} "
                         f"table{coded} ({error})") from error


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Hold off the garbage collector, which looks at all records again and again as they are read:
    two thirds of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@uncollected()
def parse(path: Path, text: str, dialect: dict[str, Any]) -> list[Record]:
    """The records of a text; `path` is for messages."""
    longest = csv.field_size_limit(sys.maxsize)  # the module's 128 KiB are less than some texts
    records: list[Record] = []
    try:
        records.extend(_records(text, dialect))
        if records and "quoting" not in dialect and _is_open(records[-1], dialect):
            raise _without_its_other(path, records[-1].line)
        return records
    except csv.Error as error:
        if "strict" in dialect:
            last = records[-1] if records else Record(1, "", [])
            raise _without_its_other(path, last.line + len(last.raw.splitlines())) from error
        raise InputError(f"{path}: not a readable {path.suffix} table ({error})") from error
    finally:
        csv.field_size_limit(longest)


def _without_its_other(path: Path, line: int) -> InputError:
    return InputError(f"{path}, line {line}: a quotation mark in this row lacks its other; close "
                      f'it, and write one that belongs to the text as ""')


def _records(text: str, dialect: dict[str, Any]) -> Iterator[Record]:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for number, line in enumerate(io.StringIO(text, newline="")):
            taken.append(line)
            yield line.removeprefix("\ufeff") if number == 0 else line

    if "quoting" in dialect or '"' not in text:  # a line is a record: several times as fast
        plain = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), **dialect)
        parts = zip(count(1), io.StringIO(text, newline=""), plain)
        yield from filter(attrgetter("fields"), map(partial(tuple.__new__, Record), parts))
        return
    reader = csv.reader(lines(), **dialect)
    first = 1
    for fields in reader:  # takes the lines of one record, and no more
        if fields:
            yield Record(first, "".join(taken), fields)
        first = reader.line_num + 1
        taken.clear()


def _is_open(record: Record, dialect: dict[str, Any]) -> bool:
    """Whether one more line would belong to this record, too."""
    return len(list(csv.reader([record.raw.removeprefix("\ufeff").rstrip("\r\n") + "\n", "\n"],
                               **dialect))) == 1


def _is_quoted(path: Path, text: str, plain: list[Record]) -> bool:
    rows = [record.fields for record in plain if record.raw.strip(BLANK)]
    header = rows[0]
    try:
        records = parse(path, text, {"delimiter": "\t", "strict": True})
    except InputError:  # a mark too many, or a file without quoting
        if 2 * sum(any(map(_in_marks, row)) for row in rows) > len(rows):
            raise
        return False
    if any(len(record.fields) != len(header) for record in records if record.raw.strip(BLANK)):
        return False
    if any(len(row) != len(header) for row in rows):
        return True
    if all(map(_in_marks, header)):
        return True
    marked = [field[1:-1] for row in rows for field in row if _in_marks(field)]
    return any('""' in field for field in marked) or len(rows) > 2 and any(
        all(map(_in_marks, column)) for column in zip(*rows[1:]))


def _in_marks(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"'
