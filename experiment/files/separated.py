"""Records of a CSV or TSV file, each beside the very characters that it was written with."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiment.command.errors import InputError


class Record(NamedTuple):
    line: int  # of the file, from 1, where the record begins
    raw: str  # with its line break
    fields: list[str]


def read(path: Path, **dialect: Any) -> list[Record]:
    """All records, the header too; a blank line is a record of no fields.

    `dialect`: as csv.reader takes it. Raises InputError for a missing or unreadable file.
    """
    longest = csv.field_size_limit(sys.maxsize)  # the module's 128 KiB are less than some texts
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(_records(file, dialect))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table in UTF-8 ({error})") from error
    finally:
        csv.field_size_limit(longest)


def _records(file, dialect: dict[str, Any]) -> Iterator[Record]:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for number, line in enumerate(file):
            taken.append(line)
            yield line.removeprefix("\ufeff") if number == 0 else line

    reader = csv.reader(lines(), **dialect)
    first = 1
    for fields in reader:  # takes the lines of one record, and no more
        yield Record(first, "".join(taken), fields)
        first = reader.line_num + 1
        taken.clear()
