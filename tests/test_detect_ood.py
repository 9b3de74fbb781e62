"""detect_ood.py by its command line: published arrays in, report out; and how it refuses."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from digits.build import build
from experiment.inputs import feature_file
from experiment.inputs.samples import Samples
from experiment.run import ood_threshold
from tests.conftest import ROOT

PUBLISHED = ["MSP", "MaxLogit", "Energy", "ReAct", "KL-Matching", "Mahalanobis", "KNN"]


def probs_of(logits):
    return torch.from_numpy(logits).softmax(1).numpy()


def logits_of(golden, name):
    return golden[name] @ golden["weight"].T + golden["bias"]


@pytest.fixture(scope="module")
def files(golden_ood, tmp_path_factory):
    """train.npz in the published spellings, test.npz in ours."""
    folder, golden = tmp_path_factory.mktemp("ood files"), golden_ood
    np.savez(folder / "train.npz", feat=golden["feat"], targets=golden["targets"],
             prob=probs_of(logits_of(golden, "feat")))
    np.savez(folder / "test.npz", features=golden["feat_test"], is_ood=golden["is_ood"],
             logits=logits_of(golden, "feat_test"), weight=golden["weight"], bias=golden["bias"],
             labels=np.full(800, -1), ids=np.arange(800).astype(str),
             group=np.where(golden["is_ood"], ["near", "far"] * 400, "inside"))
    return folder


@pytest.fixture
def run_done(script, files):
    """Screen and report folder of one run, made by the first test that asks."""
    report = files / "out/test/report"
    if not report.exists():
        done = script("detect_ood.py", "--features", "train.npz", "--test_features", "test.npz",
                      "--cache_dir", "out", "--verbose", "False", cwd=files, process=True)
        assert done.stderr == ""  # no progress
        (files / "screen").write_text(done.stdout)
    return (files / "screen").read_text(), report


def read_scores(report):
    with open(report / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_are_the_published_ones(run_done, golden_ood):
    rows = read_scores(run_done[1])
    assert list(rows[0]) == ["index", "id", "predicted_label", "relation_score", "rank",
                             *PUBLISHED, "is_ood", "group", "auto_score", "auto_rank",
                             "copy_of"]
    names = {"msp": "MSP", "max_logit": "MaxLogit", "energy": "Energy",
             "kl_matching": "KL-Matching"}
    for published, name in names.items():
        expected = golden_ood[f"score/{published}"]
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=0,
                                   atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose([float(row["Mahalanobis"]) for row in rows],
                               golden_ood["score/mahalanobis"], rtol=1e-3)
    s = 1 / golden_ood["score/relation_pow1"]
    score = np.array([float(row["relation_score"]) for row in rows])
    np.testing.assert_allclose(1 / score, s, rtol=0, atol=1e-5 * s.max() + 0.03)
    assert score[[int(row["rank"]) == 1 for row in rows]] == score.max()
    assert [row["is_ood"] == "True" for row in rows] == golden_ood["is_ood"].tolist()


def test_metrics_are_the_published_ones(run_done, golden_ood):
    saved = json.loads((run_done[1] / "metrics.json").read_text())
    rows = {(row["name"], row["group"]): row for row in saved["rows"]}
    assert {group for _, group in rows} == {"all", "near", "far"}
    for published, name in {"msp": "MSP", "max_logit": "MaxLogit", "energy": "Energy",
                            "kl_matching": "KL-Matching", "mahalanobis": "Mahalanobis",
                            "relation_pow1": "relation"}.items():
        row = rows[name, "all"]
        np.testing.assert_allclose([row["auroc"], row["ap"], row["tnr95"]],
                                   golden_ood[f"metrics/{published}"], rtol=0, atol=1e-4)
    inside = np.sort([float(row["relation_score"]) for row in read_scores(run_done[1])
                      if row["is_ood"] == "False"])
    assert saved["id_thresholds"]["relation"] == pytest.approx(inside[379])
    assert saved["data"]["n"] == 800 and saved["train"]["n"] == 8000
    assert saved["settings"]["pow"] == 1


def test_the_users_rows_are_listed_by_auto(run_done):
    screen, report = run_done
    assert "most suspect rows, by auto (auto_rank in scores.csv)" in screen
    with open(report / "suspects.csv", newline="", encoding="utf-8") as file:
        listed = [int(row["index"]) for row in csv.DictReader(file)]
    ranks = [int(row["auto_rank"]) for row in read_scores(report)]
    assert [ranks[index] for index in listed] == list(range(1, 801))


def test_screen_tells_tnr95_from_fpr95(run_done):
    screen = run_done[0]
    assert "TNR95: ID rows passed where 95 % of the OOD ones are found" in screen
    assert "*FPR95: OOD rows passed where 95 % of the ID ones pass" in screen
    assert "given" not in screen and (run_done[1] / "scores.png").stat().st_size > 0


def test_saved_threshold_judges_one_new_sample(run_done, files):
    """As the docstring of experiment/run/ood_threshold.py shows it."""
    test = feature_file.read(files / "test.npz", labelled=False, ignore=["labels"])
    train = feature_file.read(files / "train.npz", labelled=False)
    judge = ood_threshold.load(run_done[1], train)
    rows = read_scores(run_done[1])
    worst = min(range(800), key=lambda row: int(rows[row]["rank"]))
    best = max(range(800), key=lambda row: int(rows[row]["rank"]))
    for row, expected in {worst: True, best: False}.items():
        one = Samples("camera", test.features[row][None], test.probs[row][None])
        scores, is_ood = judge(one)
        assert 1 / scores == pytest.approx(1 / float(rows[row]["relation_score"]), abs=1e-5)
        assert is_ood.tolist() == [expected]


def test_fewer_baselines_other_formats_and_no_truth(script, golden_ood, tmp_path):
    """.pt files, no labels, no head, no truth; from another folder."""
    for key, name in {"feat": "train.pt", "feat_test": "new.pt"}.items():
        torch.save({"feat": torch.from_numpy(golden_ood[key][:300].copy()),
                    "logit": torch.from_numpy(logits_of(golden_ood, key)[:300].copy())},
                   tmp_path / name)
    shown = script("detect_ood.py", "--features", "train.pt", "--test_features", "new.pt",
                   "--baselines", "Mahalanobis", "ReAct", "MSP", "--hop", 2, "--output", "report",
                   cwd=tmp_path).stdout
    assert "note: Mahalanobis is left out: train.pt has no labels" in shown
    assert "note: ReAct is left out: neither new.pt nor train.pt has the head" in shown
    assert "note: no truth in the data" in shown
    saved = json.loads((tmp_path / "report/metrics.json").read_text())
    assert saved["rows"] == [] and saved["id_thresholds"] == {}
    assert list(read_scores(tmp_path / "report")[0]) == [
        "index", "id", "predicted_label", "relation_score", "rank", "MSP", "auto_score",
        "auto_rank", "copy_of"]


def test_groups_without_id_rows_give_nulls(script, golden_ood, tmp_path):
    outside = golden_ood["is_ood"]
    features, probs = golden_ood["feat_test"], probs_of(logits_of(golden_ood, "feat_test"))
    np.savez(tmp_path / "train.npz", features=features, probs=probs)
    np.savez(tmp_path / "test.npz", features=features[outside], probs=probs[outside],
             is_ood=outside[outside], group=["far"] * int(outside.sum()))
    shown = script("detect_ood.py", "--features", tmp_path / "train.npz", "--test_features",
                   tmp_path / "test.npz", "--baselines", "--output", tmp_path).stdout
    assert "note: every row is OOD (all): AUROC, AP, TNR95 and FPR95 are not defined" in shown
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [(row["name"], row["group"], row["auroc"]) for row in rows] == [
        ("relation", "all", None), ("auto", "all", None), ("relation", "far", None),
        ("auto", "far", None)]


def test_digits(script, tmp_path):
    build(tmp_path / "digits", 2, progress=False)
    shown = script("detect_ood.py", "-n", "digits_2", "--pow", 1, "--cache_dir", tmp_path).stdout
    assert "digits 8, 9" not in shown  # one OOD set: the rows of all OOD rows say it
    report = tmp_path / "digits/report"
    rows = json.loads((report / "metrics.json").read_text())["rows"]
    assert [row["name"] for row in rows[:9]] == [*PUBLISHED, "relation", "auto"]
    assert {row["group"] for row in rows} == {"all", "digits 8, 9"}
    assert {row["name"]: row["auroc"] for row in rows}["Mahalanobis"] > 0.9
    assert len(read_scores(report)[0]) == 5 + 7 + 2 + 2 + 1


@pytest.mark.parametrize("words, message", [
    (["--features", "a.npz"], "expected both --features (training rows) and --test_features"),
    (["--baselines", "KNM"], "--baselines KNM: expected some of MSP, MaxLogit, Energy, "),
    (["--features", "train.npz", "--test_features", "nowhere.npz"], "nowhere.npz: no such file"),
    (["--features", "train.npz", "--test_features", "narrow.npz"],
     "narrow.npz: expected 32 features as in train.npz, got 5"),
    (["--features", "train.npz", "--test_features", "unfit.npz"],
     "unfit.npz: weight: expected shape (2, 5) beside features (3, 5) and 2 classes, got (2, 4)"),
    (["-n", "digits_60"], "python download.py -n digits_60"),
])
def test_a_mistake_is_one_line(refused, files, words, message):
    narrow = dict(features=np.ones((3, 5), "f4"), probs=np.full((3, 2), 0.5, "f4"))
    np.savez(files / "narrow.npz", **narrow)
    np.savez(files / "unfit.npz", weight=np.ones((2, 4), "f4"), **narrow)
    assert message in refused("detect_ood.py", *words, "--cache_dir", "errors", cwd=files)


def test_help_answers_without_the_heavy_libraries():
    code = ("import sys; sys.path[0] = '.'; import detect_ood\n"
            "detect_ood.get_args_parser().format_help()\n"
            "heavy = {'torch', 'timm', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_leakage_is_counted_and_listed(script, tmp_path, clusters):
    """Three of twenty test rows stand in the training set, one of them a little louder."""
    features, probs, labels, _ = clusters
    test = torch.cat([features[[5, 9, 11]], -features[:17]])
    test[1] *= 1.0001
    test[2, 0] += 1e-4
    np.savez(tmp_path / "train.npz", features=features, probs=probs, labels=labels)
    np.savez(tmp_path / "test.npz", features=test, probs=probs[:20])
    words = ("detect_ood.py", "--features", tmp_path / "train.npz", "--test_features",
             tmp_path / "test.npz", "--output", tmp_path / "report", "--duplicates")
    shown = script(*words, "0.9999").stdout
    assert "note: leakage: 3 of 20 test rows are copies of training rows, 1 of them exact" in shown
    assert [int(row["copy_of"]) for row in read_scores(tmp_path / "report")] == [
        5, 9, 11, *[-1] * 17]
    saved = json.loads((tmp_path / "report/metrics.json").read_text())
    assert saved["leakage"] == {"rows": 3, "exact_rows": 1, "threshold": 0.9999,
                                "radius": None}
    assert "note: leakage" not in script(*words, "off").stdout
    wrong = script(*words, "1.5", check=False)
    assert wrong.returncode == 2 and "auto, off, or a cosine from 0 to below 1" in wrong.stderr
