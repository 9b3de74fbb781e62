import csv
import json

import pytest


@pytest.fixture
def results(script, tmp_path, feature_file):
    """A results folder with one report of detect.py, and a stranger's file."""
    script("detect.py", "--features", feature_file, "--cache_dir", tmp_path, "--auto", "False")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metrics.json").write_text('{"accuracy": 1}')
    return tmp_path


def test_report_becomes_tables(script, results):
    shown = script("figure/tables.py", "--cache_dir", results, process=True).stdout
    assert "| train | relation | **1.000** | **1.000** | **1.000** | **0.000** |" in shown
    assert f"note: {results}/other/metrics.json is left out: not a metrics.json of" in shown
    metrics = json.loads((results / "train/report/metrics.json").read_text())["rows"]
    with open(results / "tables.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["score"], float(row["AP"])) for row in rows] == [
        (row["name"], row["ap"]) for row in metrics]
    assert "train & loss & " in (results / "tables.tex").read_text()
    assert (results / "tables.md").read_text() in shown


def test_chosen_scores_and_output(script, results):
    script("figure/tables.py", "--cache_dir", results, "--scores", "relation", "loss", "--output",
           results / "paper")
    lines = (results / "paper/tables.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["score", "relation", "loss"]


def test_unwritable_output(refused, results):
    line = refused("figure/tables.py", "--cache_dir", results, "--output",
                   results / "other/metrics.json/paper")
    assert "paper: cannot be written to" in line


@pytest.mark.parametrize("words, message", [
    (["--cache_dir", "nowhere"], "--cache_dir nowhere: no such folder"),
    (["--cache_dir", "."], "no metrics.json with figures"),
    (["--scores"], "argument --scores: expected at least one argument"),
])
def test_mistakes_get_one_line(refused, tmp_path, words, message):
    line = refused("figure/tables.py", *words, cwd=tmp_path)
    assert line.startswith("tables.py: error: ") and message in line
    assert list(tmp_path.iterdir()) == []
