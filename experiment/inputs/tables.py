"""Read a table, and write chosen rows with changed cells; everything else stays as in the file.

The reader of users' tables of paths and of texts, so that rows count from 0 alike everywhere. Which
column holds paths or labels: `own_data.read_table`; texts: language/data.py.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiment.command.errors import InputError, reason_of
from experiment.files import json_table, packed, separated

Changes = Mapping[str, Mapping[int, str]]  # column -> row -> new text


class Table(NamedTuple):
    """`values` gives a column (N,) as it stands, None for what is missing, and `texts` as text, ""
    for what is missing; `write` writes some rows to a file."""

    columns: list[str]
    values: Callable[[str], list[Any]]
    write: Callable[[Path, Sequence[int], Changes], None]

    def texts(self, column: str) -> list[str]:
        return list(map(text_of, self.values(column)))


def read(path: Path, *, blank_rows: bool = False, names: Sequence[str] = ()) -> Table:
    """A table by its ending, which may be compressed. `blank_rows`: a line of spaces is a row, as
    for the csv module; `names`: those of the columns of a CSV or TSV file without a header.

    Raises InputError for one that cannot be read.
    """
    if packed.ending_of(path) == ".parquet":
        return _parquet(path)
    if packed.ending_of(path) in (".json", ".jsonl"):
        return _json(path)
    return _separated(path, blank_rows, names)


def _separated(path: Path, blank_rows: bool, names: Sequence[str]) -> Table:
    """CSV or TSV. Rows without a new value are written as they were, to the last quotation mark.

    InputError for a row with more fields than the header.
    """
    records, dialect = separated.read_table(path)
    tabs = dialect.get("delimiter") == "\t"
    spaces = "\r\n " if tabs else separated.BLANK
    records = [record for record in records if blank_rows or record.raw.strip(spaces)]
    if not records:
        raise InputError(f"{path}: not a readable {path.suffix} table (expected a header, got "
                         f"nothing)")
    header, rows = records[0], records[not names:]
    columns = list(names) or _named(
        name.strip() if blank_rows else name for name in header.fields)
    for row in rows:
        if any(row.fields[len(columns):]):
            mark = "tab" if tabs else dialect.get("delimiter", "comma")
            raise InputError(f"{path}: not a readable {path.suffix} table (line {row.line}: more "
                             f"fields than the header has; a value with a {mark} needs quotation "
                             f"marks)")
    line_break = header.raw[len(header.raw.rstrip("\r\n")):] or "\n"

    def values(column: str) -> list[str | None]:
        at = columns.index(column)
        return [row.fields[at] if at < len(row.fields) else None for row in rows]

    def line(row: int, values: Mapping[str, str]) -> str:
        record = rows[row]
        if not values:
            return record.raw if record.raw.endswith(("\r", "\n")) else record.raw + line_break
        fields = record.fields + [""] * (len(columns) - len(record.fields))
        for column, value in values.items():
            fields[columns.index(column)] = value
        file = io.StringIO()
        try:
            csv.writer(file, **dialect).writerow(fields)  # ends in \r\n, so it quotes both
        except csv.Error as error:
            raise InputError(f"{path}, row {row}: {values} cannot be written to a {path.suffix} "
                             f"table ({error})") from error
        return file.getvalue().removesuffix("\r\n") + line_break

    def write(target: Path, kept: Sequence[int], changes: Changes) -> None:
        with open(target, "w", newline="", encoding="utf-8") as file:
            file.write("" if names else header.raw)
            file.writelines(line(row, _of_row(changes, row)) for row in kept)

    return Table(columns, values, write)


def _named(names: Iterable[str]) -> list[str]:
    """Column names as pandas makes them differ: a, a.1, a.2."""
    found: dict[str, int] = {}
    for name in names:
        number, different = found.get(name, 0), name
        while different in found:
            number += 1
            different = f"{name}.{number}"
        found |= {name: number, different: found.get(different, 0)}
    return list(found)


def _json(path: Path) -> Table:
    """One of the forms of `json_table`, or one object a line; such lines without a new value stay
    as they were."""
    try:
        content, lines = _parsed(path)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable {path.suffix} table ({error})") from error
    form = json_table.form_of(content)
    if form == "records" and content and {"annotations", "data"} <= content[0].keys():
        raise InputError(f"{path}: tasks of Label Studio; export them as JSON-MIN or CSV instead")
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        raise InputError(f"{path}: COCO annotations, which may be several for an image; expected "
                         f"a table with a row for each (CVAT also exports the format ImageNet, a "
                         f"folder for --image_dir)")
    if form is None:
        raise InputError(f"{path}: not a readable {path.suffix} table (expected a list of objects, "
                         f"one object a line, or a table as pandas writes it)")
    objects = json_table.rows_of(content, form)
    columns = list(dict.fromkeys(name for entry in objects for name in entry))

    def values(column: str) -> list[Any]:
        return [entry.get(column) for entry in objects]

    def write(target: Path, kept: Sequence[int], changes: Changes) -> None:
        like = {column: _alike(values(column)) for column in changes}
        new = [{column: like[column](value) for column, value in _of_row(changes, row).items()}
               for row in kept]
        rows = [objects[row] | change for row, change in zip(kept, new)]
        if lines:
            text = "".join((_dumped(row) if change else lines[at].rstrip("\r")) + "\n"
                           for at, row, change in zip(kept, rows, new))
        elif form == "records":
            text = "[" + ",\n ".join(map(_dumped, rows)) + "]\n"
        else:
            text = _dumped(json_table.content_of(content, form, kept, rows)) + "\n"
        target.write_text(text, encoding="utf-8", newline="")

    return Table(columns, values, write)


def _parsed(path: Path) -> tuple[Any, list[str]]:
    """The content, and the lines of a file that has one object on each."""
    text = separated.text_of(path).removeprefix("\ufeff")
    if packed.ending_of(path) == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
        else:
            if json_table.form_of(content) or not isinstance(content, dict):
                return content, []
    lines = [line for line in text.split("\n") if line.strip()]
    return [json.loads(line) for line in lines], lines


def read_parquet(path: Path):
    """A pyarrow table, whose texts are UTF-8. InputError for one that cannot be read."""
    import pyarrow
    from pyarrow import parquet

    try:
        with io.BytesIO(packed.content_of(path)) as file:
            table = parquet.ParquetFile(file).read()
        table.validate(full=True)
        if len(set(table.column_names)) < len(table.column_names):
            raise ValueError("two of its columns have one name")
        return table
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable .parquet table ({reason_of(error)})") from error


def _parquet(path: Path) -> Table:
    import pyarrow
    from pyarrow import parquet

    table = read_parquet(path)

    def write(target: Path, kept: Sequence[int], changes: Changes) -> None:
        changed = table
        for column, new in changes.items():
            kind, values = table.schema.field(column).type, table[column].to_pylist()
            like = _alike(values)
            try:
                for row, text in new.items():
                    values[row] = like(text)
                changed = changed.set_column(changed.column_names.index(column),
                                             table.schema.field(column),
                                             pyarrow.array(values, type=kind))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
                raise InputError(f"{path}: column {column!r} of {kind} holds no such label "
                                 f"({error})") from error
        with open(target, "wb") as file:
            parquet.write_table(changed.take(pyarrow.array(kept, pyarrow.int64())), file)

    return Table(table.column_names, lambda column: table[column].to_pylist(), write)


def _of_row(changes: Changes, row: int) -> dict[str, str]:
    return {column: values[row] for column, values in changes.items() if row in values}


def text_of(value: Any) -> str:
    """As language.own reads a value: a whole number is one, whatever holds it."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _alike(values: Sequence[Any]) -> Callable[[str], Any]:
    """Text -> the value that stands for it in a column, or one of the column's kind."""
    known = {text_of(value): value for value in values}
    numbers = all(value is None or isinstance(value, int) and not isinstance(value, bool)
                  for value in values)

    def value_of(text: str) -> Any:
        if text in known:
            return known[text]
        return int(text) if numbers and text.removeprefix("-").isdecimal() else text
    return value_of


def _dumped(entry: Any) -> str:
    text = json.dumps(entry, ensure_ascii=False)
    # Half a character can stand in JSON, but in no file.
    return text if text.isascii() or text == text.encode("utf-8", "replace").decode() else \
        json.dumps(entry)
