"""Names of experiments, folders and files that would lead out of the results, or into trouble."""

import os

import pytest
import torch

from experiment.command.errors import InputError
from experiment.published import find

pytestmark = pytest.mark.promise("names")
HOSTILE = ["..", ".", "../up", "../../etc/passwd", "/etc", "a/b", "a\\b", "two words", "it's",
           '"q"', "a\nb", "a\tb", "\x1b[31m", "\u202egnp", "מילה_60", "x" * 256, "a" * 5000,
           "", " ", "-x",
           "~", "$HOME", "`id`", "a;b", "|", "*", "digits_" + "9" * 300, "digits_٦٠", "digits_1e9",
           "CON:", "a\x7f"]


def everything(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("dataset", ["imagenet", "digits"])
def test_experiment_names(tmp_path, dataset, record_property):
    for name in HOSTILE:
        with pytest.raises(InputError, match="--name"):
            find(name, dataset, tmp_path)
    record_property("cases", len(HOSTILE))


@pytest.mark.parametrize("words", [
    ("download.py", "--cache_dir", "results", "-n"),
    ("detect.py", "--cache_dir", "results", "-n"),
    ("detect_val.py", "--cache_dir", "results", "-n"),
    ("detect_ood.py", "--cache_dir", "results", "-n"),
    ("language/detect.py", "--cache_dir", "results", "-t"),
    ("language/download.py", "--cache_dir", "results", "-t"),
    ("language/train.py", "--cache_dir", "results", "--clean", "-t"),
    ("language/train.py", "--cache_dir", "results", "--clean", "-t", "mine", "-n"),
    ("language/detect.py", "--cache_dir", "results", "-t", "mine", "-n"),
    ("speech/detect.py", "--cache_dir", "results", "-t"),
    ("speech/download.py", "--cache_dir", "results", "-t"),
], ids=lambda words: " ".join([words[0], words[-1]]))
def test_names_on_the_command_line(script, tmp_path, words, record_property):
    """One line, and nothing is made anywhere."""
    cwd = tmp_path / "deep/er"
    cwd.mkdir(parents=True)
    before = everything(tmp_path)
    for name in HOSTILE:
        if name.startswith("-"):
            words = (*words[:-1], words[-1])
            name = f"={name}"
        done = script(*words[:-1], f"{words[-1]}{name}", cwd=cwd, check=False)
        assert done.returncode == 2, (name, done)
        assert len(done.stderr.splitlines()) == 1, (name, done.stderr)
        assert "\x1b" not in done.stderr and "\u202e" not in done.stderr, name
        assert everything(tmp_path) == before, name
    record_property("cases", len(HOSTILE))


FILES = ["...npz", "a\nb.npz", "\x1b[31m.npz", "x" * 251 + ".npz", os.fsdecode(b"\xff\xfe.npz")]
MORE_FILES = ["....npz", "two words.npz", "it's.npz", "-x.npz", "\u202egnp.npz", "מילה.npz",
              "report.npz", "=1+1.npz", "$HOME.npz"]


@pytest.mark.parametrize("name", FILES + [pytest.param(name, marks=pytest.mark.fault)
                                          for name in MORE_FILES], ids=ascii)
def test_feature_files(script, tmp_path, feature_file, name):
    """The report lies in the results folder, whatever the file is called."""
    cwd = tmp_path / "deep"
    cwd.mkdir()
    feature_file.rename(tmp_path / name)
    before = {path for path in tmp_path.rglob("*")}
    done = script("detect.py", "--features", tmp_path / name, "--cache_dir", "results",
                  "--auto", "False", cwd=cwd)
    made = {path for path in tmp_path.rglob("*")} - before
    assert any(path.name == "scores.csv" for path in made)
    assert all(path.is_relative_to(cwd / "results") for path in made)
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert len(list(cwd.glob("results/*/report/scores.csv"))) == 1


@pytest.mark.parametrize("option", ["--output", "--cache_dir", "--features", "--graph"])
def test_paths_too_long_for_the_system(refused, feature_file, tmp_path, option):
    words = ["detect.py", "--features", feature_file, "--cache_dir", tmp_path]
    line = refused(*words, option, tmp_path / ("x" * 300 + ".npz"))
    assert "File name too long" in line


def test_names_in_an_error_are_on_one_line(refused, tmp_path):
    line = refused("detect.py", "--features", tmp_path / "a\nb\x1b[31m.npz")
    assert "a\\nb\\x1b[31m.npz: no such file" in line


def test_an_npz_of_unwritable_names(script, tmp_path, clusters):
    """Identifiers with half a surrogate pair, as file names of another encoding have them."""
    features, probs, labels, _ = clusters
    torch.save({"features": features, "probs": probs, "labels": labels,
                "ids": ["a\udcff.jpg"] * len(labels), "class_names": ["\udcfe"] * 4},
               tmp_path / "train.pt")
    script("detect.py", "--features", tmp_path / "train.pt", "--cache_dir", tmp_path)
    text = (tmp_path / "train/report/scores.csv").read_text(encoding="utf-8")
    assert "a\\udcff.jpg" in text


