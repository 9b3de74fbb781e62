import csv
import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch

from experiment import published
from experiment.files import drive, reading
from experiment.inputs.samples import probs_of
from language import demo, features
from language.schedule import Schedule
from tests.conftest import ROOT
from tests.dense import dense_relation, dense_sums

HERE = ROOT / "language"


def read(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    metrics = json.loads((folder / "metrics.json").read_text())
    return rows, {row["name"]: row for row in metrics["rows"]}


def test_published_experiment_runs_as_written(published):
    """detect.py -t sst2 from inside the folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "detect.py", "-t", "sst2", "--cache_dir", published], cwd=HERE,
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "positive  negative   yes" in done.stdout
    rows, metrics = read(published / "sst2/report")
    content = reading.load(published / "sst2/roberta-base_fp16_noise0.1/epoch_4/feat_train.pt")
    labels = reading.load(published / "sst2/target0.1_large_4.pt")["targets"]
    r = dense_relation(content["feat_cls"], probs_of(content["logit"]), torch.tensor(labels))
    s = dense_sums(r, temperature=4)
    s = s - 2 * dense_sums(r[:, s / np.abs(s).max() < -0.05], temperature=4)
    np.testing.assert_allclose([float(row["relation_score"]) for row in rows],
                               -s / np.abs(s).max(), atol=1e-5)
    assert metrics["relation"]["ap"] == pytest.approx(1)
    assert (published / "sst2/graph_cos_p_pow4.pt").is_file()


def test_options_of_the_published_column(published, script):
    shown = " ".join(script("language/detect.py", "--help").stdout.split())
    for text in ("default: sst2", "roberta-base_fp16_noise0.1", "default: 4", "default: 200",
                 "default: 0.05", "default: cos_p", "default: float32"):
        assert text in shown, text
    script("language/detect.py", "-t", "sst2", "-n", "roberta-base_fp16_noise0.1", "-e", 4, "--hop",
           2, "--kernel", "cos", "--pow", 2, "--reg", 0.1, "--chunk", 7, "--dtype", "float16",
           "--verbose", "False", "--cache_dir", published, "--output", published / "out")
    rows, metrics = read(published / "out")
    assert len(rows) == 40 and metrics["relation"]["ap"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["detect", "download", "train", "extract", "make_noise"])
def test_help_answers_without_the_heavy_libraries(name):
    code = (f"import sys, runpy; sys.argv = ['{name}.py', '--help']\n"
            f"try: runpy.run_path('language/{name}.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'numpy'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--task_name" in done.stdout


def test_whole_way_through_the_scripts(script, tmp_path, data_dir, model_folder):
    """Clean model, noisy labels from it, model of those, features of both splits, detection."""
    words = "--data_dir", data_dir, "--cache_dir", tmp_path / "cache", "--device", "cpu"
    train = "language/train.py", *words, "--init", model_folder, "--batch_size", 8, "--lr", 3e-3, \
        "--warmup", 5, "--epochs", 5
    script(*train, "--clean", "-n", "clean")
    shown = script("language/make_noise.py", *words, "-n", "clean", "-e", 5).stdout
    assert "labels changed" in shown
    targets = reading.load(tmp_path / "cache/sst2/target0.1_large_4.pt")
    assert len(targets["idx_chg"]) in (7, 8)  # every tenth of the sure ones among 80
    script(*train)
    script("language/extract.py", *words, "-e", 5, "--split", "validation")
    folder = tmp_path / "cache/sst2/roberta-base_fp16_noise0.1"
    assert reading.load(folder / "epoch_5/feat_validation.pt")["feat_cls"].shape == (16, 64)
    script("language/detect.py", *words, "-e", 5)
    rows, metrics = read(folder / "epoch_5/report")
    assert (folder / "epoch_5/graph_cos_p_pow4.pt").is_file()  # beside the features it is of
    assert rows[0]["id"].startswith("the ") and len(rows) == 80
    print({name: metrics[name]["ap"] for name in ("loss", "relation")})
    assert min(metrics[name]["ap"] for name in ("loss", "relation")) > 0.5
    assert (folder / "epoch_4/feat_train.pt").exists() is False


def test_make_noise_never_replaces(refused, published):
    assert "target0.1_large_4.pt: exists already" in refused(
        "language/make_noise.py", "--cache_dir", published)


def test_own_model_by_path_from_inside_the_folder(script, tmp_path, data_dir, model_folder):
    script("language/detect.py", "-t", "mine", "-n", "models/mine", "--data_dir", "glue",
           "--cache_dir", "out", "--output", "report", cwd=tmp_path)
    rows, metrics = read(tmp_path / "report")
    assert len(rows) == 80 and metrics == {} and "is_noisy" not in rows[0]


@pytest.mark.parametrize("words, message", [
    (["-e", 3], "--epoch 3: no folder"),
    (["-n", "nothing"], "--model_name nothing: no such folder"),
    (["-t", "../sst2"], "argument -t/--task_name: expected letters, digits"),
    (["-t", "mnli"], "--model_name roberta-base_fp16_noise0.1: no such folder, here or in"),
    (["--text_columns", "phrase"], "train.tsv: no column 'phrase'; found sentence, label"),
    (["--text_columns", "a", "b", "c"],
     "--text_columns: expected one column, or two for pairs, got 3"),
    (["--data_dir", "nowhere"], "nowhere: no such folder"),
    (["--device", "cuda:99", "-n", "models/mine"], "--device cuda:99: 0 CUDA devices"),
    (["-e", "0"], "argument -e/--epoch: expected a whole number of at least 1"),
])
def test_wrong_options_get_one_line(refused, tmp_path, published, data_dir, model_folder, words,
                                    message):
    before = sorted(published.rglob("*"))
    line = refused("language/detect.py", "--data_dir", data_dir, "--cache_dir", published, *words,
                   cwd=tmp_path)
    assert message in line
    if "epoch 3" in message:
        assert "epochs there: 4" in line
    assert sorted(published.rglob("*")) == before  # nothing written


def test_model_without_its_vocabulary_gets_one_line(refused, tmp_path, data_dir, model_folder):
    for path in model_folder.glob("*token*"):
        path.unlink()
    assert "no tokenizer with the vocabulary of the model" in refused(
        "language/detect.py", "-t", "mine", "-n", model_folder, "--data_dir", data_dir,
        "--cache_dir", tmp_path / "cache")


def test_train_needs_targets_that_fit(refused, tmp_path, data_dir, published):
    words = "language/train.py", "--data_dir", data_dir, "--cache_dir"
    assert "target0.1_large_4.pt: no such file" in refused(*words, tmp_path / "empty")
    assert "target0.2_large_4.pt: no such file, though the model's name r_noise0.2 states" in \
        refused(*words, published, "-n", "r_noise0.2")
    data = pandas.read_csv(data_dir / "train.tsv", sep="\t")
    data[:9].to_csv(data_dir / "train.tsv", sep="\t", index=False)
    assert "target0.1_large_4.pt: expected 9 rows as in" in refused(*words, published)


@pytest.mark.parametrize("name", ["../../escaped", "/abs", ".", "..", ""])
def test_train_stays_in_the_folder_of_the_task(refused, tmp_path, name):
    assert "argument -n/--model_name: expected letters, digits" in refused(
        "language/train.py", "-n", name, "--cache_dir", tmp_path)
    assert not list(tmp_path.iterdir())


def test_download_of_published_files_is_drives(script, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(drive, "fetch", lambda *words, **how: fetched.append((words, how)))
    script("language/download.py", "-t", "mnli", "--cache_dir", tmp_path)
    assert fetched == [((published.PUBLISHED["mnli"], tmp_path), {"progress": True})]


def test_small_demo_is_laid_out_as_the_published_files(script, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PER_CLASS", {"train": 60, "validation": 20})
    monkeypatch.setattr(demo, "SCHEDULE", Schedule(epochs=4, learning_rate=3e-3,
                                                            batch_size=16, max_length=32))
    monkeypatch.setattr(demo, "paragraphs", lambda package: [
        f"{word} about {package} number {at}." for at in range(100)
        for word in ("Words", "Lines")])
    for _ in range(2):  # the second time everything is there
        script("language/download.py", "-t", "demo", "--cache_dir", tmp_path, "--device", "cpu")
    folder = tmp_path / "demo"
    for name in ("data/train.csv", "data/validation.csv", "target0.1_large_4.pt",
                 "roberta-tiny_noise0.1/config.json", "roberta-tiny_noise0.1/tokenizer.json",
                 "roberta-tiny_noise0.1/epoch_4/model.safetensors",
                 "roberta-tiny_noise0.1/epoch_4/feat_train.pt",
                 "roberta-tiny_noise0.1/epoch_4/feat_validation.pt"):
        assert (folder / name).is_file(), name
    monkeypatch.setattr(features, "extract", None)  # detection finds all it needs
    shown = script("language/detect.py", "-t", "demo", "--cache_dir", tmp_path).stdout
    assert "roberta-tiny_noise0.1/epoch_4/feat_train.pt: rows 180" in shown
    assert read(folder / "report")[1]["relation"]["ap"] > 0.5


def test_paragraphs_are_english_prose_from_the_installed_package():
    found = demo.paragraphs("networkx")
    assert len(found) == len(set(found)) > 1500
    assert all(8 <= len(text.split()) <= 40 and text.endswith(".") for text in found)
    assert any("shortest path" in text for text in found)


@pytest.mark.slow  # a minute: two trainings of 4,500 texts
def test_demo_finds_the_planted_errors(script, tmp_path):
    for name in ("download", "detect"):
        script(f"language/{name}.py", "-t", "demo", "--cache_dir", tmp_path, process=True)
    _, metrics = read(tmp_path / "demo/report")
    found = {name: round(metrics[name]["ap"], 3) for name in ("loss", "relation")}
    print(f"AP {found}, by chance 0.1")
    assert min(found.values()) > 0.6
