import unicodedata

import numpy as np
import pytest
import torch

from experiment.command.errors import InputError
from experiment.inputs import given_labels
from experiment.inputs.own_data import OwnHead, Rows, files_of_table, labelled_samples, notes_of

COMPOSED, APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("values, expected", [
    (["1", "1.0", "2"], ["1", "1", "2"]), ([1.0, 2.0, None], ["1", "2", ""]),
    (["1.0", "cat"], ["1", "cat"]), (["1.0", "1.5", "1"], ["1.0", "1.5", "1"]),
    (["a", "nan", "None", "NA", "-", "", float("nan")], ["a", *[""] * 6]),
    (["none", "a"], ["none", "a"]), ([0, 1, -1], ["0", "1", ""]), ([-1, 1], ["-1", "1"]),
    (["-1.0", "0.0", "1.0"], ["", "0", "1"]), ([COMPOSED, APART], [COMPOSED] * 2),
    ([True, False], ["True", "False"]), ([["a"], [], ("b",), "c"], ["a", "", "b", "c"]),
    ([np.array(["a"], object), np.array([1])], ["a", "1"])])
def test_one_spelling_for_each_class(values, expected):
    assert given_labels.read("t.csv", values) == expected


@pytest.mark.parametrize("values", [["a", ["a", "b"]], ["a", {"name": "a"}], ["a", [[0, 5, "ORG"]]],
                                    ["['a', 'b']", "['a']"], ["", '["a"]']])
def test_several_labels_of_a_row(values):
    with pytest.raises(InputError, match="t.csv: labels: expected one for each row, got several, "):
        given_labels.read("t.csv", values)


def test_rows_without_a_label_are_counted_and_a_path_is_found_in_the_other_form(tmp_path):
    for name in (f"{COMPOSED}.png", f"2{APART}.png", "3.png"):
        (tmp_path / name).touch()
    path = tmp_path / "t.csv"
    path.write_text(f"path,label\n{APART}.png,{APART}\n2{COMPOSED}.png,{COMPOSED}\n3.png,None\n",
                    encoding="utf-8")
    files, rows = files_of_table(path)
    assert [file.is_file() for file in files] == [True] * 3
    assert rows.labels == (COMPOSED, COMPOSED)
    assert notes_of(rows) == ("1 of 3 rows is left out (row 2, 3.png: no label)",)


def test_a_head_has_its_names_in_the_other_form():
    rows = Rows.of("data", ["x"] * 8, [COMPOSED, "tea"] * 4)
    own = OwnHead(torch.eye(2)[torch.arange(8) % 2], [APART, "tea"])
    found = labelled_samples(rows, torch.rand(8, 2), own, progress=False)
    assert not found.out_of_sample and found.labels.tolist() == [0, 1] * 4
