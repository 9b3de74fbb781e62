"""detect.py and detect_val.py on published layouts and on images, by their command lines."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from digits.build import build
from tests.conftest import ROOT
from tests.dense import dense_relation, dense_sums
from tests.imagenet_files import planted, random_model, val_names, write_checkpoint, write_tree

CLASSES, DIM = 5, 24


def read(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return table, json.loads((folder / "metrics.json").read_text())


def column(table, name):
    return np.array([float(row[name]) for row in table])


def dense_scores(features, weight, bias, labels, temperature):
    """s0 and the final score from features and head, in float64."""
    features, weight, bias = features.double(), weight.double(), bias.double()
    r = dense_relation(features, torch.softmax(features @ weight.T + bias, 1), labels)
    s0 = dense_sums(r, temperature=temperature)
    s = s0 - 2 * dense_sums(r[:, s0 / np.abs(s0).max() < -0.05], temperature=temperature)
    return -s / np.abs(s).max()


@pytest.fixture
def noisy_mae(tmp_path):
    """mae_large_noise0.08_49 as published: 250 rows, of which target.pt keeps 200 and changes 16.

    Returns features, weight, bias, given labels, changed positions; the rows are the kept ones.
    """
    features, weight, bias, true = planted(250, DIM, CLASSES)
    folder = tmp_path / "mae_large_noise0.08"
    write_checkpoint(folder / "checkpoint-49.pth", {"head.weight": weight, "head.bias": bias})
    (folder / "features").mkdir()
    torch.save(features, folder / "features/feat_train_49.pt")
    picked = torch.arange(250)[torch.arange(250) % 5 != 2]
    given, changed = true[picked].clone(), torch.arange(0, 160, 10)
    given[changed] = (given[changed] + 1) % CLASSES
    torch.save({"idx_clean": picked.numpy(), "targets": given, "idx_chg": changed},
               folder / "target.pt")
    return features[picked], weight, bias, given, changed


@pytest.mark.parametrize("options, hop, tolerance", [
    (["--pow", "4"], 1, 1e-5), (["--pow", "4", "--hop", "3"], 3, 1e-5),
    (["--pow", "1.5", "--chunk", "17"], 1, 1e-5), (["--pow", "4", "--dtype", "float16"], 1, 5e-3),
])
def test_noisy_training_set_from_published_files(script, tmp_path, noisy_mae, options, hop,
                                                 tolerance):
    features, weight, bias, given, changed = noisy_mae
    script("detect.py", "-n", "mae_large_noise0.08_49", *options, "--cache_dir", tmp_path,
           "--imagenet_dir", tmp_path / "none")
    table, metrics = read(tmp_path / "mae_large_noise0.08/report")
    expected = dense_scores(features[::hop], weight, bias, given[::hop], float(options[1]))
    np.testing.assert_allclose(column(table, "relation_score"), expected, atol=tolerance)
    assert [int(row["index"]) for row in table] == list(range(0, 200, hop))
    assert [row["index"] for row in table if row["is_noisy"] == "True"] == [
        str(position) for position in changed.tolist() if position % hop == 0]
    assert table[2]["id"] == ("3" if hop == 1 else "8")  # in the full training set
    assert metrics["rows"][-1]["auroc"] == pytest.approx(1)
    assert metrics["data"]["n"] == len(table)


def test_validation_set_from_published_files(script, tmp_path):
    features, weight, bias, labels = planted(12, DIM, 4)
    folder = tmp_path / "mae_large"
    write_checkpoint(folder / "checkpoint-49.pth", {"head.weight": weight, "head.bias": bias})
    (folder / "features").mkdir()
    torch.save(features, folder / "features/feat_val_49.pt")
    names = [f"n{label}/{name}" for label in range(4) for name in sorted(val_names(label)[:3])]
    (tmp_path / "val.txt").write_text("\n".join(names))
    shown = script("detect_val.py", "-n", "mae_large_49", "--pow", 4, "--cache_dir", tmp_path,
                   "--val_list", tmp_path / "val.txt", "--hop", 1, process=True).stdout
    assert "note: ReaL labels: 4 clean, 4 diff, 4 none, 0 ambiguous" in shown
    table, metrics = read(folder / "report")
    np.testing.assert_allclose(column(table, "relation_score"),
                               dense_scores(features, weight, bias, labels, 4), atol=1e-5)
    assert [row["id"] for row in table] == names
    assert list(table[0])[15:17] == ["is_noisy", "real"]
    assert all((row["real"] == "clean") == (row["is_noisy"] == "False") for row in table)
    assert metrics["rows"][8]["name"] == "relation"
    assert metrics["settings"]["val_list"].endswith("val.txt")


def test_validation_set_without_names(script, tmp_path):
    features, weight, bias, labels = planted(200, DIM, 4)
    folder = tmp_path / "resnet50/features"
    folder.mkdir(parents=True)
    torch.save(features, folder / "feat_val.pt")
    torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "resnet50.pth")
    shown = script("detect_val.py", "-n", "resnet50", "--pow", 4, "--cache_dir", tmp_path,
                   "--checkpoint", tmp_path / "resnet50.pth", "--imagenet_dir", tmp_path / "none")
    assert "give --val_list FILE" in shown.stdout and "no truth in the data" in shown.stdout
    table, _ = read(tmp_path / "resnet50/report")
    np.testing.assert_allclose(column(table, "relation_score"),
                               dense_scores(features, weight, bias, labels, 4), atol=1e-5)


def test_mae_from_images_to_report(script, tmp_path):
    write_tree(tmp_path / "imagenet", "val", per_class=2, classes=3)
    write_checkpoint(tmp_path / "results/mae_base/checkpoint-0.pth",
                     random_model("vit_base_patch16_224", 3, global_pool="avg").state_dict())
    words = ["detect_val.py", "-n", "mae_base_0", "--cache_dir", tmp_path / "results",
             "--imagenet_dir", tmp_path / "imagenet", "--device", "cpu", "--workers", 1]
    shown = script(*words).stdout
    assert "feat_val_0.pt: 6 images, top-1 " in shown and "ReaL labels: " in shown
    table, metrics = read(tmp_path / "results/mae_base/report")
    assert len(table) == 6 and metrics["data"]["dim"] == 768
    assert "top-1" not in script(*words).stdout  # features are there
    assert read(tmp_path / "results/mae_base/report")[0] == table


def test_training_set_from_images_with_a_broken_one(script, refused, tmp_path):
    names = write_tree(tmp_path / "imagenet", "train", per_class=5, classes=3)
    broken = tmp_path / "imagenet/train/n00000001" / names[1][2]
    broken.write_bytes(broken.read_bytes()[:500])
    torch.save(random_model("test_resnet", 3).state_dict(), tmp_path / "weights.pth")
    words = ["detect.py", "-n", "test_resnet", "--cache_dir", tmp_path, "--device", "cpu",
             "--imagenet_dir", tmp_path / "imagenet", "--checkpoint", tmp_path / "weights.pth",
             "--workers", 2, "--batch_size", 4]
    line = refused(*words)
    assert f"{broken}: not a readable image" in line and "--skip_corrupt" in line
    shown = script(*words, "--skip_corrupt").stdout
    assert "1 could not be read" in shown and "1 of 15 rows have a feature of zeros" in shown
    table, metrics = read(tmp_path / "test_resnet/report")
    assert len(table) == 15 and metrics["rows"] == [] and float(table[7]["relation_score"]) == 0
    assert table[7]["id"] == f"n00000001/{names[1][2]}" and table[7]["given_label"] == "1"


def test_digits(script, tmp_path):
    build(tmp_path / "digits", 1, progress=False)
    script("detect_val.py", "-n", "digits_1", "--pow", 4, "--cache_dir", tmp_path)
    _, metrics = read(tmp_path / "digits/report")
    assert metrics["rows"][8]["name"] == "relation"


def test_chunk_of_resnets(tmp_path):
    from detect_val import get_args_parser
    from experiment.run.settings import Settings
    for words, chunk in (["-n", "mae_large_49"], 250), (["-n", "resnet50"], 100), \
            (["-n", "resnet50", "--chunk", "30"], 30), (["-n", "resnet50", "--chunk", "200"], 100):
        assert Settings.of(get_args_parser().parse_args(words)).chunk == chunk


@pytest.mark.parametrize("script_name, words, message", [
    ("detect.py", ["-n", "mae_large_noise0.08_49"], "checkpoint-49.pth: no such file"),
    ("detect.py", ["-n", "resnet51"], "--name resnet51: not an experiment, nor a model of timm"),
    ("detect_val.py", ["-n", "mae_large"], "--name mae_large: expected an epoch after"),
    ("detect_val.py", ["-n", "mae_large_49", "--checkpoint", "nowhere.pth"],
     "nowhere.pth: no such file"),
    ("detect_val.py", ["--train_labels", "x.pt"], "unrecognized arguments: --train_labels"),
    ("detect_val.py", ["-n", "digits_60"], "python download.py -n digits_60"),
])
def test_wrong_options(refused, tmp_path, script_name, words, message):
    line = refused(script_name, *words, "--cache_dir", tmp_path)
    assert line.startswith(f"{script_name}: error: ") and message in line
    assert not list(tmp_path.iterdir())


def test_help_answers_without_the_heavy_libraries():
    code = ("import sys, runpy; sys.argv = ['detect_val.py', '--help']\n"
            "try: runpy.run_path('detect_val.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--val_list" in done.stdout and "--ood_dir" not in done.stdout
