"""The benchmarks' command lines, in small: each runs, and refuses what it cannot use."""

import csv
import json

import pytest

from benchmarks import table
from tests.conftest import ROOT


@pytest.mark.slow  # a process of its own
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


def test_new_rows_that_do_not_belong(script, tmp_path):
    shown = script("benchmarks/ood.py", "--sets", "wine", "--out", tmp_path / "ood.csv").stdout
    with open(tmp_path / "ood.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == 3 * ["class", "between", "noise"]
    assert all(float(row["auto"]) > 0.9 for row in rows if row["kind"] == "noise")
    assert (tmp_path / "ood.md").read_text(encoding="utf-8") in shown


@pytest.mark.parametrize("options", [
    ["--kernel", "cos"],
    *(pytest.param(options, marks=pytest.mark.slow)  # each measures a large matrix product
      for options in ([], ["--sharpness", 0.5, "--pow", 1, "--repeats", 3],
                      ["--targets", 500, "--pow", 1], ["--refined", "--dense_rows", 0]))])
def test_speed(script, tmp_path, options):
    told = json.loads(script("benchmarks/speed.py", "--n", 300, "--dim", 16, "--classes", 30,
                             "--data", tmp_path, "--dense_rows", 20, *options).stdout)
    assert told["engine_seconds"] > 0 and len(list(tmp_path.iterdir())) == (
        2 if "--targets" in options else 1)
    if "--refined" not in options:
        assert told["largest_difference"] < 1e-5
        assert told["ratio"] == told["dense_seconds_scaled_up"] / told["engine_seconds"]
    if "--kernel" not in options:
        assert told["times_limit"] == told["engine_seconds"] / told["limit_seconds"]


@pytest.mark.slow
def test_nearest_neighbours(script):
    """In a process of its own: faiss brings threads of its own into it."""
    told = json.loads(script("benchmarks/knn.py", "--n", 600, "--targets", 2000, "--dim", 16,
                             "--k", 20, "--repeats", 1, process=True).stdout)
    assert told["same_neighbours"] == 1


@pytest.mark.slow  # two starts of torchrun
def test_processes(script):
    told = json.loads(script("benchmarks/processes.py", "--n", 300, process=True).stdout)
    assert told["largest_difference"] < 1e-6 and told["seconds_of_two"] > 0


def test_the_page_on_speed_shows_the_table_that_was_measured(tmp_path):
    found = json.loads((ROOT / "benchmarks/table.json").read_text(encoding="utf-8"))
    assert list(found) == list(table.CASES)
    assert table.markdown(found) in (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    table.draw(found, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("words, message", [
    (["speed.py", "--repeats", "0"], "argument --repeats: expected a whole number of at least 1"),
    (["knn.py", "--k", "many"], "argument --k: expected a whole number of at least 1"),
    (["table.py"], "the following arguments are required: --data"),
    (["memory.py", "--n", 0], "argument --n: expected a whole number of at least 1, got '0'"),
    (["simulate.py"], "the following arguments are required: --out"),
    (["leave_one_out.py", "--against", "digits_noise0.3_7"], "python download.py -n digits_noise0"),
    (["label_errors.py", "--out", "x", "--epochs", "ten"], "argument --epochs: expected a whole"),
])
def test_mistakes_get_one_line(refused, tmp_path, words, message):
    assert message in refused(f"benchmarks/{words[0]}", *words[1:], cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # four commands at the width of ImageNet
def test_full_size(script, tmp_path):
    """The layout once, then every whole command; the memory that they tell is what is seen."""
    words = ("benchmarks/full_size.py", "--data", tmp_path, "--share", "0.002", "--baselines",
             "MSP")
    told = [json.loads(line) for line in script(*words).stdout.splitlines() if line[:1] == "{"]
    assert [list(figures) for figures in told] == [["detect.py"], ["detect_val.py"],
                                                  ["detect_ood.py"]]
    for figures in (next(iter(one.values())) for one in told):
        assert set(figures["stages"]) >= {"loading", "relation", "scores.csv"}
        assert sum(stage["seconds"] for stage in figures["stages"].values()) \
            < figures["wall_seconds"] + 1
        assert figures["anonymous_mib"] < figures["told_mib"] + 50
    assert told[0]["detect.py"]["rows"] == 2486
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    script(*words, "--scripts", "detect_val.py")
    assert there == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
