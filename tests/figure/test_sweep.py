import csv
import json

import numpy as np
import pytest
from PIL import Image

from digits import samples as digits
from digits.build import build
from figure.sweep_grid import best_of
from tests.dense import dense_relation, dense_sums


def read(folder):
    with open(folder / "sweep.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((folder / "sweep.json").read_text())


def test_every_setting_once_with_its_figures(script, tmp_path, feature_file, golden):
    np.savez(feature_file, feat=golden["feat"], prob=golden["prob"], targets=golden["targets"],
             noise=golden["noise"])
    shown = script("figure/sweep.py", "--features", feature_file, "--cache_dir", tmp_path,
                   "--pow", 1, 4, 4, 1.5, "--kernel", "cos", "cos_p", "--dtype", "float32",
                   "bfloat16").stdout
    rows, told = read(tmp_path / "train/report")
    assert [(row["dtype"], row["kernel"], float(row["temperature"])) for row in rows] == [
        (dtype, kernel, t) for dtype in ("float32", "bfloat16") for kernel in ("cos", "cos_p")
        for t in (1, 4, 1.5)]
    for row in rows[:6]:
        r = dense_relation(golden["feat"], golden["prob"], golden["targets"], kernel=row["kernel"])
        s = dense_sums(r, temperature=float(row["temperature"]))
        taken = s / np.abs(s).max() < -0.05
        assert int(row["estimated_noise"]) == taken.sum()
        s = s - 2 * dense_sums(r[:, taken], temperature=float(row["temperature"]))
        worst = np.argsort(s, kind="stable")
        found = golden["noise"][worst].astype(bool)
        precision = np.cumsum(found) / np.arange(1, len(s) + 1)
        assert float(row["ap"]) == pytest.approx(precision[found].mean(), abs=1e-3)
    np.testing.assert_allclose([float(rows[4][name]) for name in ("auroc", "ap", "tnr95")],
                               golden["metrics/relation/cos_p/pow4"], atol=1e-4)
    assert float(rows[10]["ap"]) == pytest.approx(float(rows[4]["ap"]), abs=0.05)
    assert [{key: str(value) for key, value in row.items()} for row in told["grid"]] == rows
    assert told["published"] == told["grid"][4]
    assert told["settings"]["features"] == str(feature_file)
    lines = shown.splitlines()
    assert sum("the paper's" in line for line in lines) == 1
    assert sum("best AP" in line for line in lines) == 1
    with Image.open(tmp_path / "train/report/sweep.png") as picture:
        assert picture.size[0] > 1000


def test_the_best_is_the_first_of_those_that_print_alike():
    rows = [{"ap": 0.71}, {"ap": 0.9281}, {"ap": 0.92814}]
    assert best_of(rows) is rows[1] and best_of(rows[::-1]) is rows[2]


def test_data_are_loaded_once(script, tmp_path, monkeypatch):
    build(tmp_path / "digits_noise0.2", 1, progress=False)
    loaded, load = [], digits.load_train
    monkeypatch.setattr(digits, "load_train", lambda *a, **b: loaded.append(b) or load(*a, **b))
    words = ("figure/sweep.py", "-n", "digits_noise0.2_1", "--cache_dir", tmp_path, "--pow", 2, 8,
             "--output", tmp_path / "out", "--hop", 4)
    done = script(*words)
    rows, told = read(tmp_path / "out")
    assert len(loaded) == 1 and len(rows) == 4
    assert told["published"] is None and "the paper's" not in done.stdout
    assert "4/4" in done.stderr and script(*words, "--verbose", "False").stderr == ""


def test_it_stands_in_a_process_of_its_own(script, tmp_path, feature_file):
    done = script("figure/sweep.py", "--features", feature_file, "--pow", 4, "--output",
                  tmp_path / "out", "--verbose", "False", process=True, cwd=tmp_path)
    assert done.stderr == ""
    assert read(tmp_path / "out")[1]["best"]["ap"] == pytest.approx(1)  # the planted errors


@pytest.mark.parametrize("change, message", [
    (lambda data: data.pop("is_noisy"), "expected some labels known to be wrong and others to be "
                                        "right, got no is_noisy"),
    (lambda data: data.update(is_noisy=np.zeros(120, bool)), "got 0 wrong of 120"),
    (lambda data: data.update(is_noisy=np.ones(120, bool)), "got 120 wrong of 120"),
])
def test_data_without_both_kinds_are_refused(refused, tmp_path, feature_file, change, message):
    with np.load(feature_file) as file:
        data = dict(file)
    change(data)
    np.savez(feature_file, **data)
    line = refused("figure/sweep.py", "--features", feature_file, "--output", tmp_path / "out",
                   "--verbose", "False")
    assert message in line and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("words, message", [
    (["--pow", "0"], "argument --pow: expected a number above 0, up to 1000, got '0'"),
    (["--pow"], "argument --pow: expected at least one argument"),
    (["--kernel", "cos", "rbf"], "argument --kernel: invalid choice: 'rbf'"),
    (["--dtype", "float64"], "argument --dtype: invalid choice: 'float64'"),
    (["--device", "cuda:99"], "--device cuda:99: 0 CUDA devices were found"),
    (["--features", "nowhere.npz"], "nowhere.npz: no such file"),
    (["-n", "digits_noise0.08_60"], "python download.py -n digits_noise0.08_60"),
])
def test_wrong_options_get_one_line(refused, tmp_path, feature_file, words, message):
    if words[0] not in ("--features", "-n"):
        words = ["--features", feature_file, *words]
    before = sorted(tmp_path.iterdir())
    line = refused("figure/sweep.py", *words, "--cache_dir", tmp_path)
    assert line.startswith("sweep.py: error: ") and message in line
    assert sorted(tmp_path.iterdir()) == before
