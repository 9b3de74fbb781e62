"""The forms of a table in JSON: a list of objects, or one of those that pandas writes.

    records   [{column: value}]                      columns   {column: {row: value}}
    index     {row: {column: value}}                 lists     {column: [value]}
    split     {"columns", "index", "data": [[value]]}
    table     {"schema", "data": [{column: value}]}
"""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def form_of(content: Any) -> str | None:
    """Which of these forms it has, or None."""
    if isinstance(content, list):
        return "records" if all(isinstance(entry, dict) for entry in content) else None
    if not isinstance(content, dict) or not content:
        return None
    if isinstance(content.get("data"), list):
        if isinstance(content.get("schema"), dict) and form_of(content["data"]):
            return "table"
        columns = content.get("columns")
        if isinstance(columns, list) and all(
                isinstance(row, list) and len(row) == len(columns) for row in content["data"]):
            return "split"
    inner = list(content.values())
    if all(isinstance(value, list) for value in inner):
        return "lists" if len(set(map(len, inner))) == 1 else None
    if not all(isinstance(value, dict) for value in inner):
        return None
    # Rows are numbered as a rule. Where both or neither look so, columns are pandas' default.
    names = {name for value in inner for name in value}
    return "index" if _are_numbers(content) and not _are_numbers(names) else "columns"


def rows_of(content: Any, form: str) -> list[Row]:
    """The table as a list of objects."""
    if form == "records":
        return content
    if form == "table":
        return content["data"]
    if form == "split":
        names = list(map(str, content["columns"]))
        return [dict(zip(names, row)) for row in content["data"]]
    if form == "index":
        return list(content.values())
    if form == "lists":
        return [dict(zip(content, row)) for row in zip(*content.values())]
    numbers = dict.fromkeys(number for column in content.values() for number in column)
    return [{name: column.get(number) for name, column in content.items()} for number in numbers]


def content_of(original: Any, form: str, kept: Sequence[int], rows: Sequence[Row]) -> Any:
    """`rows`, which are those of the numbers `kept`, in the form of the original."""
    if form == "records":
        return rows
    if form == "table":
        return original | {"data": rows}
    if form == "split":
        index = original.get("index")
        numbers = {} if index is None else {"index": [index[row] for row in kept]}
        return original | numbers | {"data": [list(row.values()) for row in rows]}
    if form == "index":
        names = list(original)
        return {names[row]: value for row, value in zip(kept, rows)}
    if form == "lists":
        return {name: [row[name] for row in rows] for name in original}
    names = list(dict.fromkeys(number for column in original.values() for number in column))
    return {name: {names[at]: row[name] for at, row in zip(kept, rows)} for name in original}


def _are_numbers(names: Any) -> bool:
    return all(name.isdecimal() for name in names)
