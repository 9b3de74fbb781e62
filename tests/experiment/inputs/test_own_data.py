import pytest
import torch

from experiment.command.errors import InputError
from experiment.inputs.own_data import (
    Rows,
    files_of_table,
    labelled_samples,
    notes_of,
    path_table,
)
from experiment.inputs.own_head import OwnHead


def rows_of(labels, **known):
    return Rows.of("data", [f"{at}.jpg" for at in range(len(labels))], labels, **known)


@pytest.fixture
def rows():
    """16 rows in the classes cat and dog."""
    return rows_of(["dog", "cat"] * 8)


@pytest.fixture
def features():
    return torch.eye(2)[torch.arange(16) % 2] + 0.1 * torch.arange(16)[:, None]


def samples(rows, features, own=None, **known):
    return labelled_samples(rows, features, own, progress=False, **known)


def test_left_out_rows_keep_their_numbers_and_are_named():
    rows = rows_of(["a", "", "b", "a", "b", "a"]).drop({3: "broken\x1b[31m"}).drop({})
    assert rows.index == (0, 2, 4, 5) and rows.labels == ("a", "b", "b", "a")
    assert notes_of(rows) == ("2 of 6 rows are left out (row 1, 1.jpg: no label; row 3, 3.jpg: "
                              "broken\\x1b[31m)",)
    found = samples(rows, torch.rand(4, 3))
    assert found.index.tolist() == [0, 2, 4, 5] and found.every(2).index.tolist() == [0, 4]
    assert [row.index for row in found.left_out] == [1, 3]
    with pytest.raises(InputError, match="data: none of 4 rows can be used: row 0, 0.jpg: bad"):
        rows.drop(dict.fromkeys(range(6), "bad"))


def test_a_note_names_five_rows_and_counts_the_others():
    rows = rows_of(["a"] * 3 + [""] * 9)
    note, = notes_of(rows)
    assert note.startswith("9 of 12 rows are left out (row 3, 3.jpg: no label; ")
    assert note.endswith("row 7, 7.jpg: no label; and 4 more)")


@pytest.mark.parametrize("labels, names", [
    (["b", "a", "b"], ("a", "b")), (["10", "9", "-1"], ("-1", "9", "10")),
    (["10", "9", "x"], ("10", "9", "x"))])
def test_classes_are_sorted_as_numbers_where_all_are(labels, names):
    numbers, found = rows_of(labels).numbered()
    assert found == names and [names[number] for number in numbers] == labels


def test_without_a_head_of_its_own_cross_validated_regression(rows, features):
    found = samples(rows, features)
    assert found.out_of_sample == "logistic regression on frozen features, 5-fold cross-validated"
    assert found.notes[0] == (f"probabilities: {found.out_of_sample} (the network has no head of "
                              f"its own)")
    assert found.class_names == ("cat", "dog") and found.labels.tolist() == [1, 0] * 8
    assert found.weight.shape == (2, 2) and found.own_data
    assert (found.probs.argmax(1) == found.labels).all()


def test_a_head_whose_classes_have_these_names(rows, features):
    logits = torch.zeros(16, 3)
    own = OwnHead(logits, ["Dog", "bird", "Cat"], features=2 * features)
    found = samples(rows, features, own)
    assert found.labels.tolist() == [0, 2] * 8 and found.class_names == ("Dog", "bird", "Cat")
    assert not found.out_of_sample and torch.equal(found.features, 2 * features)
    assert found.notes[0] == "probabilities: the network's own head (its classes have these names)"


@pytest.mark.parametrize("own, verdict", [
    (OwnHead(torch.zeros(16, 2), ["cat", "horse"]), "the network's head knows no class 'dog', but "
                                                "'cat', 'horse'"),
    (OwnHead(torch.zeros(16, 3), None), "the network's head has 3 classes, the data have 2"),
    (OwnHead(torch.eye(2)[torch.arange(16) % 2], None), "the network's head has 2 classes too, but "
                                                    "reproduces 0.0 % of the labels"),
])
def test_heads_for_other_classes_are_not_used(rows, features, own, verdict):
    found = samples(rows, features, own)
    assert found.out_of_sample and verdict in found.notes[0]


@pytest.mark.parametrize("names", [None, ["n1", "n2"]])  # names that say nothing of these
def test_a_head_without_their_names_that_reproduces_the_labels(rows, features, names):
    found = samples(rows, features, OwnHead(torch.eye(2)[1 - torch.arange(16) % 2], names))
    assert not found.out_of_sample and "it reproduces 100.0 % of the labels" in found.notes[0]


def test_a_class_of_one_row_stays(rows, features):
    labels = [*rows.labels[:15], "dgo"]
    found = samples(rows_of(labels), features)
    assert found.class_names == ("cat", "dgo", "dog") and found.probs[15, 1] == 0


@pytest.mark.parametrize("labels, message", [
    (["a", "a", "a"], "data: expected at least two classes, got only 'a'"),
    (["a", "b", "c"], "3 of 3 rows have a class of their own .'a', 'b', 'c'.: is "),
    (["a"] * 4 + [f"text {row}" for row in range(5)], "5 of 9 rows have a class of their own"),
    (["a", "", "a"], "got only 'a'; 1 of 3 rows is left out .row 1, .*: no label.$"),
    (["a", "", "b", "c"], "label column.; 1 of 4 rows is left out .row 1, .*: no label.$"),
])
def test_too_few_classes_or_rows(labels, message):
    with pytest.raises(InputError, match=message):
        samples(rows_of(labels), torch.rand(len(labels), 2))


def test_outliers_from_a_single_class():
    found = samples(rows_of(["a"] * 3), torch.rand(3, 2), labels_matter=False)
    assert found.probs.tolist() == [[1]] * 3


def test_tables(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('\ufefflabel, path\n cat ,"a, b.jpg"\ndog\n,c.jpg\n', encoding="utf-8")
    found = path_table(path)
    assert found.table.texts(found.paths) == ["a, b.jpg", "", "c.jpg"]
    assert found.table.values(found.labels) == [" cat ", "dog", ""] and not found.notes
    (tmp_path / "a, b.jpg").touch()
    files, rows = files_of_table(path)
    assert files[0] == tmp_path / "a, b.jpg" and rows.index == (0,)
    assert [row.reason for row in rows.left_out] == ["no path", "no label"]


@pytest.mark.parametrize("content, message", [
    (None, "no such file"),
    (b"", "not a readable .csv table .expected a header, got nothing"),
    (b"x;label\na;b\n", r"no column path; found x, label \(expected the header"),
    (b"document,label\n", "no column path; found document, label"),
    (b"path,label\n", "expected at least one row below the header"),
    (b"path,label\na,b.jpg,cat\n", "line 2: more fields than the header has"),
    (b"path,label\n\xff\xfe,x\n", "not a readable .csv table in UTF-8"),
])
def test_tables_of_something_else(tmp_path, content, message):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        path_table(path)


@pytest.mark.parametrize("content", ["path,label\n" + "x" * 200_000 + ",y\n",
                                     "path,label," + "x" * 200_000 + "\na,b,c\n",
                                     "path,label\n\0,y\n"])
def test_names_that_no_file_can_have(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match="none of 1 rows can be used: .* no such file"):
        files_of_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.tsv"])
@pytest.mark.parametrize("header", ["path,label", "filepath,given_name", "FileName , LABEL",
                                    "image,given_label", "file,label"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_other_programs(tmp_path, name, header, mark, encoding):
    (tmp_path / "in").mkdir()
    for row in range(2):
        (tmp_path / f"in/{row}.jpg").touch()
    text = f"{header}\nin/0.jpg,é\nin\\1.jpg,b\n".replace(",", mark)
    (tmp_path / name).write_bytes(text.encode(encoding))
    files, rows = files_of_table(tmp_path / name)
    assert rows.labels == ("é", "b") and files[1] == tmp_path / "in/1.jpg"


@pytest.mark.parametrize("named, header", [
    (("Bild", "Art"), "Art,Bild,path"), (("bild", None), " BILD ,Label,x"),
    ((None, "art"), "x,path,Art "), (("path", "Path"), "Path,x,path")])
def test_columns_that_the_user_names(tmp_path, named, header):
    """As they are spelled, or else whatever their capitals and the spaces around them."""
    (tmp_path / "0.jpg").touch()
    row = {"bild": "0.jpg", "art": "cat", "label": "cat", "path": "0.jpg", "x": "other"}
    cells = ["cat" if name == "Path" else row[name.strip().lower()] for name in header.split(",")]
    if named[0] == "Bild":
        cells[2] = "other"
    (tmp_path / "t.csv").write_text(f"{header}\n{','.join(cells)}\n")
    files, rows = files_of_table(tmp_path / "t.csv", named)
    assert files == [tmp_path / "0.jpg"] and rows.labels == ("cat",)


def test_columns_that_are_not_there(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na,b\n")
    with pytest.raises(InputError, match="no column picture and mood; found path, label .*--path"):
        files_of_table(tmp_path / "t.csv", ("picture", "mood"))


@pytest.mark.parametrize("line", ["{path},{label}", "{label};{path}", "{label}\t{path}"])
def test_two_columns_without_a_header(tmp_path, line):
    for row in range(3):
        (tmp_path / f"{row}.jpg").touch()
    (tmp_path / "t.csv").write_text("\n".join(
        line.format(path=f"{row}.jpg", label="abc"[row]) for row in range(3)))
    files, rows = files_of_table(tmp_path / "t.csv")
    assert rows.labels == ("a", "b", "c") and rows.index == (0, 1, 2)
    assert files == [tmp_path / f"{row}.jpg" for row in range(3)]
    assert rows.notes[0].startswith("the table has no header: its columns are taken as ")


def test_a_header_is_no_row_where_a_file_is_called_so(tmp_path):
    for name in ("path", "0.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("path,label\n0.jpg,a\n")
    assert files_of_table(tmp_path / "t.csv")[1].labels == ("a",)
