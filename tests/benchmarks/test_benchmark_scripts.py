"""The benchmarks' command lines, in small: each runs, and refuses what it cannot use."""

import csv
import json

import pytest


def test_memory(script):
    told = json.loads(script("benchmarks/memory.py", "--n", 200, "--dim", 8, "--classes", 20,
                             process=True).stdout)
    assert told["rows"] == 200 and told["above_inputs_mib"] >= 0


def test_leave_one_out(script):
    told = json.loads(script("benchmarks/leave_one_out.py", "--n", 200, "--dim", 8, "--classes",
                             10, "--no_relation").stdout)
    assert told["classes"] == 10 and "relation_seconds" not in told


def test_label_errors(script, tmp_path):
    shown = script("benchmarks/label_errors.py", "--out", tmp_path, "--noise", "0.2", "--seeds", 0,
                   "--epochs", 1).stdout
    with open(tmp_path / "grid.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["uniform", "pair"] and float(rows[0]["auto"]) > 0.5
    assert "of 2 cells" in shown and (tmp_path / "grid.png").stat().st_size > 1000


@pytest.mark.parametrize("words, message", [
    (["memory.py", "--n", 0], "argument --n: expected a whole number of at least 1, got '0'"),
    (["simulate.py"], "the following arguments are required: --out"),
    (["leave_one_out.py", "--against", "digits_noise0.3_7"], "python download.py -n digits_noise0"),
    (["label_errors.py", "--out", "x", "--epochs", "ten"], "argument --epochs: expected a whole"),
])
def test_mistakes_get_one_line(refused, tmp_path, words, message):
    assert message in refused(f"benchmarks/{words[0]}", *words[1:], cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
