"""detect_ood.py by its command line: published arrays in, report out; and how it refuses."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
PUBLISHED = ["MSP", "MaxLogit", "Energy", "ReAct", "KL-Matching", "Mahalanobis", "KNN"]


def detect(*arguments, folder=ROOT):
    return subprocess.run([sys.executable, ROOT / "detect_ood.py", *map(str, arguments)],
                          cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "tests/data/ood.npz") as file:
        return dict(file)


def softmax(logits):
    return torch.from_numpy(logits).softmax(1).numpy()


@pytest.fixture(scope="module")
def files(golden, tmp_path_factory):
    """train.npz in the published spellings, test.npz in ours."""
    folder = tmp_path_factory.mktemp("ood files")
    head = {"weight": golden["weight"], "bias": golden["bias"]}
    logits = golden["feat"] @ golden["weight"].T + golden["bias"]
    np.savez(folder / "train.npz", feat=golden["feat"], prob=softmax(logits),
             targets=golden["targets"])
    logits = golden["feat_test"] @ golden["weight"].T + golden["bias"]
    np.savez(folder / "test.npz", features=golden["feat_test"], logits=logits,
             is_ood=golden["is_ood"], labels=np.full(800, -1), ids=np.arange(800).astype(str),
             group=np.where(golden["is_ood"], ["near", "far"] * 400, "inside"), **head)
    return folder


@pytest.fixture(scope="module")
def done(files):
    run = detect("--features", "train.npz", "--test_features", "test.npz", "--cache_dir", "out",
                 "--verbose", "False", folder=files)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout, files / "out/test/report"


def read_scores(report):
    with open(report / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_are_the_published_ones(done, golden):
    rows = read_scores(done[1])
    assert list(rows[0]) == ["index", "id", "predicted_label", "relation_score", "rank",
                             *PUBLISHED, "is_ood", "group"]
    names = {"msp": "MSP", "max_logit": "MaxLogit", "energy": "Energy",
             "kl_matching": "KL-Matching"}
    for published, name in names.items():
        expected = golden[f"score/{published}"]
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=0,
                                   atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose([float(row["Mahalanobis"]) for row in rows],
                               golden["score/mahalanobis"], rtol=1e-3)
    s = 1 / golden["score/relation_pow1"]
    score = np.array([float(row["relation_score"]) for row in rows])
    np.testing.assert_allclose(1 / score, s, rtol=0, atol=1e-5 * s.max() + 0.03)
    assert score[[int(row["rank"]) == 1 for row in rows]] == score.max()
    assert [row["is_ood"] == "True" for row in rows] == golden["is_ood"].tolist()


def test_metrics_are_the_published_ones(done, golden):
    saved = json.loads((done[1] / "metrics.json").read_text())
    rows = {(row["name"], row["group"]): row for row in saved["rows"]}
    assert {group for _, group in rows} == {"all", "near", "far"}
    for published, name in {"msp": "MSP", "max_logit": "MaxLogit", "energy": "Energy",
                            "kl_matching": "KL-Matching", "mahalanobis": "Mahalanobis",
                            "relation_pow1": "relation"}.items():
        row = rows[name, "all"]
        np.testing.assert_allclose([row["auroc"], row["ap"], row["tnr95"]],
                                   golden[f"metrics/{published}"], rtol=0, atol=1e-4)
    inside = np.sort([float(row["relation_score"]) for row in read_scores(done[1])
                      if row["is_ood"] == "False"])
    assert saved["id_thresholds"]["relation"] == pytest.approx(inside[379])
    assert saved["data"]["n"] == 800 and saved["train"]["n"] == 8000
    assert saved["settings"]["pow"] == 1


def test_screen_tells_tnr95_from_fpr95(done):
    screen = done[0]
    assert "TNR95: ID rows passed where 95 % of the OOD ones are found" in screen
    assert "*FPR95: OOD rows passed where 95 % of the ID ones pass" in screen
    assert "given" not in screen and (done[1] / "scores.png").stat().st_size > 0


def test_fewer_baselines_formats_and_no_truth(golden, tmp_path):
    """.pt files, no labels, no head, no truth; run from another folder."""
    tensors = {name: torch.from_numpy(golden[name][:300]) for name in ("feat", "feat_test")}
    weight, bias = torch.from_numpy(golden["weight"]), torch.from_numpy(golden["bias"])
    for key, name in {"feat": "train.pt", "feat_test": "new.pt"}.items():
        torch.save({"feat": tensors[key], "logit": tensors[key] @ weight.T + bias},
                   tmp_path / name)
    run = detect("--features", "train.pt", "--test_features", "new.pt", "--baselines",
                 "Mahalanobis", "ReAct", "MSP", "--hop", 2, "--output", "report", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "note: Mahalanobis is left out: train.pt has no labels" in run.stdout
    assert "note: ReAct is left out: neither new.pt nor train.pt has the head" in run.stdout
    assert "note: no truth in the data" in run.stdout
    saved = json.loads((tmp_path / "report/metrics.json").read_text())
    assert saved["rows"] == [] and saved["id_thresholds"] == {}
    assert list(read_scores(tmp_path / "report")[0]) == [
        "index", "id", "predicted_label", "relation_score", "rank", "MSP"]


def test_groups_without_id_rows_give_nulls(golden, tmp_path):
    outside = golden["is_ood"]
    probs = softmax(golden["feat_test"] @ golden["weight"].T + golden["bias"])
    np.savez(tmp_path / "train.npz", features=golden["feat_test"], probs=probs)
    np.savez(tmp_path / "test.npz", features=golden["feat_test"][outside], probs=probs[outside],
             is_ood=outside[outside], group=["far"] * int(outside.sum()))
    run = detect("--features", tmp_path / "train.npz", "--test_features", tmp_path / "test.npz",
                 "--baselines", "--output", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "note: every row is OOD (all): AUROC, AP, TNR95 and FPR95 are not defined" in run.stdout
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [(row["name"], row["group"], row["auroc"]) for row in rows] == [
        ("relation", "all", None), ("relation", "far", None)]


@pytest.mark.parametrize("arguments, message", [
    (["--features", "a.npz"], "expected both --features (training rows) and --test_features"),
    (["--baselines", "KNM"], "argument --baselines: invalid choice: 'KNM' (choose from"),
    (["--features", "train.npz", "--test_features", "nowhere.npz"], "nowhere.npz: no such file"),
    (["--features", "train.npz", "--test_features", "narrow.npz"],
     "narrow.npz: expected 32 features as in train.npz, got 5"),
])
def test_a_mistake_is_one_line(files, arguments, message):
    np.savez(files / "narrow.npz", features=np.ones((3, 5), "f4"), probs=np.ones((3, 1), "f4"))
    run = detect(*arguments, "--output", "errors", folder=files)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.count("\n") == 1 and message in run.stderr


def test_help_does_not_wait_for_torch():
    code = ("import sys; sys.argv = ['detect_ood.py']; import detect_ood; "
            "detect_ood.get_args_parser().format_help(); sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
