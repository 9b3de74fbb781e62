"""Tables that are changed in some cells and rows, and in nothing else."""

import json

import pandas
import pyarrow
import pytest
from pyarrow import parquet

from experiment.cleaning.decisions import Decision
from experiment.cleaning.plan import Listed, make
from experiment.command.errors import InputError
from experiment.inputs import tables
from language.data import read_file


def rewritten(path, kept, changes, **how):
    target = path.with_name(f"cleaned{path.suffix}")
    tables.read(path, **how).write(target, kept, changes)
    return target.read_bytes()


def test_untouched_lines_keep_every_character(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,"label"\r\n"1",x\r\n \t\r\n"two\r\nlines","y"\n3,z\r4,w')
    table = tables.read(path)
    assert table.texts("label") == ["x", "y", "z", "w"]
    assert rewritten(path, [0, 1, 3], {"label": {0: 'q"\r'}}) == \
        b'a,"label"\r\n1,"q""\r"\r\n"two\r\nlines","y"\n4,w\r\n'


def test_a_line_of_spaces_is_a_row_where_the_csv_module_reads(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" path , label \nx,a\n  \n\ny,b\n")
    table = tables.read(path, blank_rows=True)
    assert table.columns == ["path", "label"] and table.texts("label") == ["a", "", "b"]
    assert rewritten(path, [1, 2], {"label": {1: "c"}}, blank_rows=True) == \
        b" path , label \n  ,c\ny,b\n"


def test_tabs_and_quotation_marks_that_are_characters(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('text\tlabel\n"a\tx\nb"\ty\n', encoding="utf-8")
    assert rewritten(path, [0, 1], {"label": {0: '"z"'}}) == b'text\tlabel\n"a\t"z"\nb"\ty\n'
    with pytest.raises(InputError, match="t.tsv, row 0: .* cannot be written to a .tsv table"):
        rewritten(path, [0], {"label": {0: "a\tb"}})


def test_json_keeps_kinds_and_untouched_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ['{"n": 1.50,  "label": 1}', "", '{"label": 2, "more": {"x": [1]}}', '{"label": 1}',
             '{"t": "\\ud800", "label": 2}']
    path.write_text("\n".join(lines))
    written = rewritten(path, [0, 1, 2, 3], {"label": {1: "1", 2: "3", 3: "1"}}).decode()
    assert written.splitlines() == [lines[0], '{"label": 1, "more": {"x": [1]}}', '{"label": 3}',
                                    '{"t": "\\ud800", "label": 1}']
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"label": True, "é": 1}, {"label": False}, {"label": None}]))
    assert tables.read(path).texts("label") == ["True", "False", ""]
    assert json.loads(rewritten(path, [0, 2], {"label": {2: "False"}})) == \
        [{"label": True, "é": 1}, {"label": False}]


@pytest.mark.parametrize("ending, content", [
    (".json", "[1, 2]"), (".jsonl", "3\n4"), (".json", "[{"), (".jsonl", "{}\n{"),
    (".parquet", "PAR1"), (".csv", "")])
def test_what_is_no_table(tmp_path, ending, content):
    path = tmp_path / f"t{ending}"
    path.write_text(content)
    with pytest.raises(InputError, match=f"t{ending}: (expected|not a readable)"):
        tables.read(path)


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(),
                                  pyarrow.dictionary(pyarrow.int8(), pyarrow.string())])
def test_parquet_keeps_its_schema(tmp_path, kind):
    path = tmp_path / "a=b/t.parquet"
    path.parent.mkdir()
    table = pyarrow.table({"label": pyarrow.array(["x", "y", None], type=kind), "list": [[1], [],
                          None], "when": pandas.to_datetime(["2026-01-02"] * 3)})
    parquet.write_table(table.replace_schema_metadata({"by": "us"}), path)
    rewritten(path, [0, 2], {"label": {0: "y", 2: "new"}})
    cleaned = parquet.ParquetFile(path.with_name("cleaned.parquet")).read()
    assert cleaned.schema.equals(parquet.ParquetFile(path).read().schema, check_metadata=True)
    assert cleaned["label"].to_pylist() == ["y", "new"]
    assert cleaned["list"].to_pylist() == [[1], None]


def test_parquet_of_numbers_holds_no_name(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"label": [1, 2]}), path)
    rewritten(path, [0, 1], {"label": {0: "3"}})
    assert parquet.read_table(tmp_path / "cleaned.parquet")["label"].to_pylist() == [3, 2]
    with pytest.raises(InputError, match="column 'label' of int64 holds no such label"):
        rewritten(path, [0, 1], {"label": {0: "three"}})


def decision(row, action, new, name, given, **more):
    return Decision(row, action, new, name, given, "line", "reason", **more)


def data(labels, **known):
    return Listed("data", [f"row {row}" for row in range(len(labels))], labels, **known)


def test_a_new_label_is_spelt_as_in_the_data(tmp_path):
    """A network's own classes may differ by case; two that differ by it alone are two."""
    found = data(["Cat", "dog", "Dog", "=x", ""])
    plan = make(found, [decision(0, "relabel", "dog", "row 0", "cat"),
                        decision(1, "relabel", "CAT", "row 1", "dog"),
                        decision(2, "relabel", "'=x", "row 2", "Dog"),
                        decision(3, "relabel", "DOG", "row 3", "'=x"),
                        decision(4, "relabel", " bird ", "row 4", "")])
    assert plan.labels == {0: "dog", 1: "Cat", 2: "=x", 3: "DOG", 4: "bird"}
    assert set(plan.notes) == {"new class 'DOG': 1 of the rows", "new class 'bird': 1 of the rows",
                               "no row is left of class 'Dog'"}


def test_the_same_label_again_changes_nothing():
    plan = make(data(["a", "b"]), [decision(0, "relabel", "a", "row 0", "a")])
    assert plan.kept == (0, 1) and not plan.labels and not plan.reasons


def test_another_text_under_the_same_name():
    with pytest.raises(InputError, match="line: row 0, 'row 0', has another text"):
        make(data(["a", "b"], texts=["new", "x"]),
             [decision(0, "drop", "", "row 0", "a", text="old")])


def test_a_class_that_cannot_be():
    with pytest.raises(InputError, match="new_label 'c' is no class of data; it has 'a', 'b'"):
        make(data(["a", "b"], classes=["a", "b"]), [decision(0, "relabel", "c", "row 0", "a")])


def test_many_rows_that_differ_are_counted():
    with pytest.raises(InputError, match="row 4 of 2; and 2 more$"):
        make(data(["a", "b"]), [decision(row, "drop", "", "x", "") for row in range(7)])


QUOTING = {
    "all": 'text\tlabel\n"a ""b"" c"\t"x"\n"two\nlines\tand a tab"\t"y"\n"plain"\t"x"\n',
    "as needed": 'text\tlabel\n"a ""b"" c"\tx\n"two\nlines\tand a tab"\ty\nplain\tx\n',
    "doubled only": 'text\tlabel\n"a ""b"" c"\tx\nplain\tx\n',
    "header": '"text"\t"label"\n"a"\t"x"\n',
    "a column": 'text\tlabel\n"a"\tx\n"b"\ty\n',
}


@pytest.mark.parametrize("how", QUOTING)
def test_a_quoted_tsv_is_read_as_pandas_reads_it(tmp_path, how):
    path = tmp_path / "t.tsv"
    path.write_text(QUOTING[how], encoding="utf-8")
    table, expected = tables.read(path), pandas.read_csv(path, sep="\t", dtype=str)
    assert {name: table.texts(name) for name in table.columns} == expected.to_dict("list")
    rewritten(path, [0], {"label": {0: 'a "new"\tone'}})
    assert tables.read(tmp_path / "cleaned.tsv").texts("label") == ['a "new"\tone']


@pytest.mark.parametrize("content", [
    'text\tlabel\n"no" she said\tx\nhe said "yes"\ty\n',
    'text\tlabel\n"whole"\tx\nplain\ty\n', 'text\tlabel\n"open\tx\nplain\ty\n',
    'text\tlabel\n"a\tx\nb"\ty\n'])
def test_quotation_marks_of_glue_are_characters(tmp_path, content):
    path = tmp_path / "t.tsv"
    path.write_text(content, encoding="utf-8")
    expected = pandas.read_csv(path, sep="\t", dtype=str, quoting=3)
    assert tables.read(path).texts("text") == expected["text"].tolist()


@pytest.mark.parametrize("name, content, line", [
    ("t.csv", 'text,label\na,x\n"b,y\nc,x\n', 3), ("t.csv", 'text,label\na,"x', 2),
    ("t.tsv", '"text"\t"label"\n"a"\t"x"\n"b\t"y"\n"c"\t"x"\n', 3),
    ("t.tsv", 'text\tlabel\n"a"\t"x"\n"b"\t"x"\n"c"\t"x\n', 4)])
def test_a_quotation_mark_without_its_other(tmp_path, name, content, line):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=f"{name}, line {line}: a quotation mark in "):
        tables.read(path)


def test_columns_of_one_name_differ_as_in_pandas(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,a.1,a,a,b\n1,2,3,4,5\n")
    assert tables.read(path).columns == pandas.read_csv(path).columns.tolist()
    assert tables.read(path).values("b") == ["5"]


FRAME = pandas.DataFrame({"text": ["a", "b\n", "é"], "label": [1, 0, 1]})
FORMS = {orient: FRAME.to_json(orient=orient)
         for orient in ("columns", "split", "table", "records", "index")}
FORMS |= {"lists": json.dumps(FRAME.to_dict("list")),
          "lines": FRAME.to_json(orient="records", lines=True),
          "named rows": FRAME.set_index(pandas.Index(["x", "y", "z"])).to_json(),
          "byte order mark": "\ufeff" + FRAME.to_json(orient="records", lines=True)}


@pytest.mark.parametrize("form", FORMS)
def test_json_in_every_form_that_pandas_writes(tmp_path, form):
    path = tmp_path / "t.json"
    path.write_text(FORMS[form], encoding="utf-8")
    table = tables.read(path)
    assert table.texts("text") == ["a", "b", "é"] and table.values("label") == [1, 0, 1]
    table.write(tmp_path / "cleaned.json", [0, 2], {"label": {2: "0"}})
    cleaned = tables.read(tmp_path / "cleaned.json")
    assert cleaned.columns == table.columns
    assert cleaned.values("text") == ["a", "é"] and cleaned.values("label") == [1, 0]
    if form in ("columns", "split", "index", "records", "table"):
        found = pandas.read_json(tmp_path / "cleaned.json", orient=form)
        assert found["label"].tolist() == [1, 0] and found.index.tolist() in ([0, 2], [0, 1])


@pytest.mark.parametrize("content", ["[[1, 2]]", "3", '{"a": 1}\n[2]'])
def test_json_that_is_no_table(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(InputError, match="t.json: not a readable .json table .expected a list of"):
        tables.read(path)


def test_parquet_that_is_no_text_or_has_a_name_twice(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"text": pyarrow.array([b"\xff"]).view("string")}), path)
    with pytest.raises(InputError, match="t.parquet: not a readable .parquet table .*UTF8"):
        tables.read(path)
    twice = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(twice, path)
    with pytest.raises(InputError, match="two of its columns have one name"):
        tables.read(path)


def test_pandas_notes_in_parquet_are_not_believed(tmp_path):
    notes = {b"pandas": b'{"index_columns": [7], "columns": "none"}'}
    table = pyarrow.table({"text": ["a"], "label": ["b"]}).replace_schema_metadata(notes)
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_file(tmp_path / "t.parquet")["label"].tolist() == ["b"]
