"""Tables in whatever they are packed, and what is no table at all."""

import bz2
import gzip
import json
import lzma
import zipfile

import pytest
from pyarrow import Table, parquet

from experiment.command.errors import InputError
from experiment.files import packed
from experiment.inputs import tables

ROWS = {"text": ["good", "bad"], "label": ["a", "b"]}
PACK = {"": lambda content: content, ".gz": gzip.compress, ".bz2": bz2.compress,
        ".xz": lzma.compress, ".zip": None}


def content_of(tmp_path, ending):
    records = [dict(zip(ROWS, row)) for row in zip(*ROWS.values())]
    if ending == ".parquet":
        parquet.write_table(Table.from_pydict(ROWS), tmp_path / "x")
        return (tmp_path / "x").read_bytes()
    mark = "\t" if ending == ".tsv" else ","
    text = {".json": json.dumps(records), ".jsonl": "\n".join(map(json.dumps, records))}
    lines = [mark.join(ROWS), *(mark.join(row) for row in zip(*ROWS.values()))]
    return text.get(ending, "\n".join(lines)).encode()


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".CSV"])
def test_packed_tables_of_all_kinds(tmp_path, ending, packing):
    path, content = tmp_path / f"t{ending}{packing}", content_of(tmp_path, ending)
    if packing == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"t{ending}", content)
            archive.writestr("__MACOSX/._t", b"")
    else:
        path.write_bytes(PACK[packing](content))
    table = tables.read(path)
    assert {name: table.values(name) for name in table.columns} == ROWS
    assert packed.plain_name(path) == f"t{ending}"


def test_packed_under_a_plain_name(tmp_path):
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"text,label\ngood,a\n"))
    assert tables.read(tmp_path / "t.csv").values("label") == ["a"]


def archive_of(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"a,b")


@pytest.mark.parametrize("name, write, message", [
    ("t.csv", lambda path: path.write_bytes(gzip.compress(b"a,b\n" * 999)[:-20]), "end-of-stream"),
    ("t.csv", lambda path: path.write_bytes(b"\x1f\x8b123"), r"not a readable .csv table \("),
    ("t.xz", lambda path: path.write_bytes(lzma.compress(b"a,b\n" * 999)[:50]), "not a readable"),
    ("t.csv", lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 50), "not a zip file"),
    ("t.csv", lambda path: archive_of(path, "a.csv", "b.csv"), "zip archive of 2 files, expected"),
    ("t.csv", lambda path: archive_of(path, "xl/workbook.xml", "a"), "a spreadsheet; save its"),
    ("t.csv", lambda path: path.write_text("<!DOCTYPE html>"), "a web page or XML, not a table"),
    ("t.xml", lambda path: path.write_text("<?xml?>\n<annotations>"), "XML as CVAT exports it"),
    ("t.json", lambda path: path.write_text('[{"id": 1, "annotations": [], "data": {}}]'),
     "tasks of Label Studio; export them as JSON-MIN or CSV instead"),
    ("t.json", lambda path: path.write_text('{"images": [], "annotations": [], "categories": []}'),
     "COCO annotations, which may be several for an image; expected a table"),
    ("t.csv", lambda path: path.write_bytes(gzip.compress(bytes(300 * 2**20), 1)),
     "unpacked it has more than 268,435,456 bytes")])
def test_what_is_no_table_gets_one_line(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        tables.read(tmp_path / name)
    assert "\n" not in str(error.value)
