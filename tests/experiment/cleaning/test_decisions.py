import csv

import pytest

from experiment.cleaning import decisions
from experiment.command.errors import InputError

HEADER = "index,name,given_label,decision,new_label"
SUSPECTS = "index,suspect_rank,id,text,given_label,suggested_label,is_label_issue,label_score"


def write(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def test_every_kind_of_decision(tmp_path):
    path = write(tmp_path / "d.csv", HEADER, '7,"a, ""b""",cat,relabel,dog', "", "0,,cat,drop,",
                 "2,x,, Keep ,")
    assert decisions.read(path) == [
        decisions.Decision(7, "relabel", "dog", 'a, "b"', "cat", f"{path}, line 2",
                           f"decided in {path}, line 2"),
        decisions.Decision(0, "drop", "", "", "cat", f"{path}, line 4",
                           f"decided in {path}, line 4"),
        decisions.Decision(2, "keep", "", "x", "", f"{path}, line 5",
                           f"decided in {path}, line 5")]


def test_names_of_labels_before_their_numbers(tmp_path):
    path = write(tmp_path / "d.csv", "index,id,suspect_rank,given_label,given_name,decision,"
                 "new_label,new_name", "1,x,1,0,cat,relabel,1,dog", "2,y,2,1,dog,drop,,")
    assert [one[:5] for one in decisions.read(path)] == [
        (1, "relabel", "dog", "x", "cat"), (2, "drop", "", "y", "dog")]


@pytest.mark.parametrize("lines, message", [
    (["index;name", "0;x"], "no column index and decision and new_label; found index;name"),
    ([""], "no column index and decision and new_label; found none"),
    ([HEADER, "x,a,b,drop,"], "line 2: index: expected a row number from 0, got 'x'"),
    ([HEADER, "-1,a,b,drop,"], "line 2: index: expected a row number from 0, got '-1'"),
    ([HEADER, "0,a,b,delete,"], "line 2: decision: expected keep, relabel, drop, got 'delete'"),
    ([HEADER, "0,a,b,relabel,"], "line 2: new_label: expected one with relabel"),
    ([HEADER, "0,a,b,drop,c"], "line 2: new_label: expected one with relabel, and none with keep"),
    ([HEADER, "0,,,drop,"], "line 2: neither id nor given_label"),
    ([HEADER, "0,a,b,drop,", "1,a,b,drop,", "0,a,b,keep,"],
     "line 4: row 0 is decided twice, first in .*line 2"),
    ([HEADER, "0,a,b,drop"], "line 2: expected 5 fields as in the header, got 4"),
])
def test_each_error_by_its_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        decisions.read(write(tmp_path / "d.csv", *lines))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "d.csv").write_bytes(HEADER.encode() + b"\n0,\xff,b,drop,")
    with pytest.raises(InputError, match="d.csv: not a readable .csv table in UTF-8"):
        decisions.read(tmp_path / "d.csv")


@pytest.mark.parametrize("header", [SUSPECTS, SUSPECTS.replace("suggested", "predicted")])
def test_suggestions_above_a_score(tmp_path, header):
    path = write(tmp_path / "s.csv", header, "4,1,d,dd,x,y,True,0.05", "5,2,e,ee,x,y,True,0.2",
                 "6,3,f,ff,x,x,True,0.01", "7,4,g,gg,x,y,False,0.01", "8,5,h,hh,x,y,True,0.1")
    found = decisions.read_suggestions(path, 0.9)
    assert [(one.row, one.action, one.new_label, one.text) for one in found.decisions] == [
        (4, "relabel", "y", "dd"), (8, "relabel", "y", "hh")]
    assert found.below == 1
    named = write(tmp_path / "n.csv", header.replace("_label,is", "_label,suggested_name,is")
                  .replace("given_label", "given_label,given_name"),
                  "4,1,d,dd,0,x,1,y,True,0.05", "5,1,d,dd,0,x,1,x,True,0.05")
    assert [(one.given_label, one.new_label)
            for one in decisions.read_suggestions(named, 0.9).decisions] == [("x", "y")]
    assert found.decisions[0].reason == f"suggested in {path}, line 2 with score 0.95"


def test_outliers_and_extra_copies_are_dropped_and_never_relabelled(tmp_path):
    path = write(tmp_path / "s.csv", f"{SUSPECTS},reasons,suggested_action",
                 "4,1,d,dd,x,y,True,0.05,wrong label; outlier,drop",
                 "5,2,e,ee,x,x,False,0.9,copy of row 4,drop", "6,3,f,ff,x,y,True,0.5,outlier,drop",
                 "7,4,g,gg,x,y,True,0.05,wrong label,relabel", "8,5,h,hh,x,x,False,1,,")
    found, below = decisions.read_suggestions(path, 0.9)
    assert [(one.row, one.action, one.new_label) for one in found] == [
        (4, "drop", ""), (5, "drop", ""), (6, "drop", ""), (7, "relabel", "y")]
    assert below == 0
    assert found[1].reason == f"suggested in {path}, line 3: copy of row 4"


@pytest.mark.parametrize("lines, message", [
    (["index,suspect_rank,id,predicted_label,outlier_score", "0,1,a,b,1"],
     "no column given_label and is_label_issue and label_score"),
    ([SUSPECTS, "0,1,a,t,x,y,True,high"], "line 2: label_score: expected a number, got 'high'"),
    ([SUSPECTS, "0,1,a,t,x,,True,0.1"], "line 2: neither suggested_label nor predicted_label"),
])
def test_a_table_of_something_else(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        decisions.read_suggestions(write(tmp_path / "s.csv", *lines), 0)


def test_a_long_text(tmp_path):
    path = tmp_path / "d.csv"
    limit = csv.field_size_limit()
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([HEADER.split(","), (0, "x" * 200_000, "a", "drop", "")])
    assert len(decisions.read(path)[0].name) == 200_000
    assert csv.field_size_limit() == limit
