import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import relation
from digits.build import build
from experiment.inputs.samples import Samples
from experiment.run.label_errors import find_label_errors
from experiment.run.settings import Settings
from tests.conftest import ROOT
from tests.dense import dense_relation, dense_sums

NAMES = ["loss", "margin", "entropy", "least-confidence", "cwe", "tracin", "jsd",
         "relation (initial)", "relation"]
BEYOND = ["loss (loo)", "loss (refit)", "neighbours", "votes", "neighbours (trusted)"]


def figures(metrics, name="relation"):
    return next(row for row in metrics["rows"] if row["name"] == name)


def read(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "metrics.json").read_text())


def dense_score(features, probs, labels, temperature):
    """Relation score of the published two steps, densely."""
    r = dense_relation(features, probs, labels)
    s = dense_sums(r, temperature=temperature)
    s = s - 2 * dense_sums(r[:, s / np.abs(s).max() < -0.05], temperature=temperature)
    return -s / np.abs(s).max()


def test_feature_file(script, tmp_path, feature_file, clusters):
    features, probs, labels, is_noisy = clusters
    shown = script("detect.py", "--features", feature_file, "--cache_dir", tmp_path,
                   "--pow", "1.5", process=True).stdout
    rows, metrics = read(tmp_path / "train/report")
    assert list(rows[0])[:7] == ["index", "id", "given_label", "predicted_label",
                                 "given_label_prob", "relation_score", "rank"]
    assert list(rows[0])[7:16] == [*NAMES[:-1], "is_noisy"]
    added = [name for name in list(rows[0])[16:] if not name.startswith("cleanlab")]
    assert added == [*BEYOND, "auto_score", "auto_rank", "suggested_label", "outlier_score",
                     "is_outlier", "duplicate_group", "is_conflict"]
    scores = np.array([row["relation_score"] for row in rows], dtype=np.float32)
    np.testing.assert_allclose(scores, dense_score(features, probs, labels, 1.5), atol=1e-5)
    assert sorted(int(row["rank"]) for row in rows) == list(range(1, 121))
    assert {row["index"] for row in rows if int(row["rank"]) <= 8} == set("01234567")
    assert [row["is_noisy"] for row in rows[7:9]] == ["True", "False"]

    names = [row["name"] for row in metrics["rows"] if not row["name"].startswith("cleanlab")]
    assert names == [*NAMES, *BEYOND, "auto"]
    assert figures(metrics) | {"name": "", "group": ""} == pytest.approx(
        {"name": "", "group": "", "auroc": 1, "ap": 1, "tnr95": 1, "fpr95": 0})
    assert metrics["data"]["n"] == 120 and metrics["data"]["classes"] == 4
    assert metrics["settings"]["pow"] == 1.5 and metrics["peak_memory_mib"] > 0
    assert (tmp_path / "train/report/scores.png").read_bytes().startswith(b"\x89PNG")
    for name in [*NAMES, "scores.csv", "metrics.json", "AUROC", "TNR95", "FPR95"]:
        assert name in shown


def test_golden_file_gives_golden_scores(script, tmp_path, golden):
    path = tmp_path / "published.npz"
    np.savez(path, feat=golden["feat"], prob=golden["prob"], targets=golden["targets"],
             noise=golden["noise"])
    script("detect.py", "--features", path, "--output", tmp_path / "out", "--chunk", 37)
    rows, metrics = read(tmp_path / "out")
    refined = golden["refined/cos_p/pow4"]
    np.testing.assert_allclose([float(row["relation_score"]) for row in rows],
                               -refined / np.abs(refined).max(), atol=1e-5)
    np.testing.assert_allclose([figures(metrics)[key] for key in ("auroc", "ap", "tnr95")],
                               golden["metrics/relation/cos_p/pow4"], atol=1e-4)


def test_digits_and_hop(script, tmp_path):
    build(tmp_path / "digits_noise0.08", 1, progress=False)
    words = "detect.py", "-n", "digits_noise0.08_1", "--cache_dir", tmp_path, "--verbose", "False"
    shown = script(*words, "--hop", "3")
    assert shown.stderr == ""  # no progress
    rows, metrics = read(tmp_path / "digits_noise0.08/report")
    assert [int(row["index"]) for row in rows] == list(range(0, 1797, 3))
    assert metrics["data"]["n"] == 599


@pytest.mark.parametrize("option, value", [("--dtype", "float16"), ("--dtype", "bfloat16"),
                                           ("--kernel", "cos"), ("--n_iter", "1"),
                                           ("--device", "cpu"), ("--thres", "0")])
def test_options_find_the_planted_errors(script, tmp_path, feature_file, option, value):
    script("detect.py", "--features", feature_file, "--output", tmp_path / "out", option, value)
    _, metrics = read(tmp_path / "out")
    assert figures(metrics)["ap"] == figures(metrics, "auto")["ap"] == pytest.approx(1)


def test_own_data_are_listed_by_auto(script, tmp_path, feature_file):
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out").stdout
    rows, metrics = read(tmp_path / "out")
    assert "by auto (auto_rank in scores.csv)" in shown and "suggested" in shown
    assert "about 8 of 120 labels (6.7 %) are wrong" in shown
    assert metrics["estimated_wrong"] == 8
    assert metrics["regime"]["model"] == pytest.approx(112 / 120)
    assert {row["index"] for row in rows if int(row["auto_rank"]) <= 8} == set("01234567")
    assert all(int(row["suggested_label"]) == int(row["index"]) % 4 for row in rows)


def test_reviewed_rows_are_settled(script, tmp_path, feature_file):
    decided = tmp_path / "decisions.csv"
    decided.write_text("index,id,given_label,decision,new_label\n0,0,1,relabel,0\n"
                       "1,1,2,relabel,1\n2,2,3,drop,\n10,10,2,keep,\n")
    words = "detect.py", "--features", feature_file, "--output", tmp_path / "out"
    shown = script(*words, "--decisions", decided).stdout
    assert "note: 4 decisions: 1 keep, 2 relabel, 1 drop; these rows are settled\n" in shown
    assert "2 of 3 reviewed labels were wrong; about 5 of the other 116 (4.3 %) are" in shown
    rows, metrics = read(tmp_path / "out")
    assert metrics["estimated_wrong"] == 7 and metrics["wrong_between"][0] > 2
    assert metrics["reviewed"] == {"keep": 1, "relabel": 2, "drop": 1}
    assert metrics["left_out"] == [{"index": 2, "name": "2", "reason": "dropped, as was decided"}]
    by_index = {row["index"]: row for row in rows}
    assert len(rows) == 119 and {by_index[row]["decision"] for row in "01"} == {"relabel"}
    assert by_index["10"]["decision"] == "keep" and by_index["3"]["decision"] == ""
    assert [by_index[row]["given_label"] for row in "01"] == ["0", "1"]  # the new ones
    with open(tmp_path / "out/suspects.csv", newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert {row["index"] for row in listed} == {*map(str, range(120))} - {"0", "1", "2", "10"}
    assert {row["index"] for row in listed if row["is_label_issue"] == "True"} == set("34567")


def test_all_rows_reviewed(script, tmp_path, feature_file, clusters):
    decided = tmp_path / "decisions.csv"
    decided.write_text("index,given_label,decision,new_label\n" + "".join(
        f"{row},{label},keep,\n" for row, label in enumerate(clusters[2].tolist())))
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out",
                   "--decisions", decided).stdout
    assert "0 of 120 reviewed labels were wrong; about 0 of the other 0 (0.0 %) are" in shown
    assert "the 0 most suspect rows" in shown


@pytest.mark.parametrize("lines, message", [
    ("index,id\n0,0", "no column decision and new_label"),
    ("index,given_label,decision,new_label\n3,2,keep,", "row 3, '3', has label '0', had '2'"),
    ("index,given_label,decision,new_label\n3,0,relabel,4", "new_label '4' is no class"),
    (None, "decisions.csv: no such file")])
def test_decisions_that_do_not_fit(refused, tmp_path, feature_file, lines, message):
    if lines is not None:
        (tmp_path / "decisions.csv").write_text(lines)
    assert message in refused("detect.py", "--features", feature_file, "--output",
                              tmp_path / "out", "--decisions", tmp_path / "decisions.csv")
    assert not (tmp_path / "out").exists()


def test_decisions_are_about_own_data(refused, tmp_path):
    for script, option in (("detect.py", "--features, --image_dir or --image_csv"),
                           ("language/detect.py", "--csv"), ("speech/detect.py", "--csv")):
        assert f"--decisions: goes with {option} only" in refused(
            script, "--decisions", tmp_path / "d.csv", "--device", "cpu")


@pytest.mark.parametrize("kernel", ["cos_p", "cos"])
def test_probs_loo_puts_leave_one_out_in_front(script, tmp_path, feature_file, kernel):
    words = "detect.py", "--features", feature_file, "--kernel", kernel, "--output"
    script(*words, tmp_path / "model")
    shown = script(*words, tmp_path / "loo", "--probs", "loo").stdout
    (model, same), (loo, metrics) = read(tmp_path / "model"), read(tmp_path / "loo")
    added = [row["name"] for row in metrics["rows"] if row not in same["rows"]]
    assert {f"{name} (loo)" for name in NAMES[1:7]} <= set(added) <= {
        f"{name} (loo)" for name in NAMES} | {"relation (initial, loo)"}
    assert metrics["settings"]["probs"] == "loo" and "relation" in shown
    if kernel == "cos_p":
        assert "relation (loo)" in added
        for row, other in zip(loo, model):
            assert row["relation"] == other["relation_score"]
            assert float(row["loss (loo)"]) == pytest.approx(
                -np.log(float(row["given_label_prob"])), rel=1e-4)
    else:  # no probability in it
        assert [row["relation_score"] for row in loo] == [row["relation_score"] for row in model]
        assert "relation (loo)" not in loo[0]


def test_refinement_that_takes_most_rows_to_be_wrong_is_no_evidence(script, tmp_path, feature_file):
    """Features that all look alike: the three other classes outweigh a row's own."""
    with np.load(feature_file) as file:
        data = dict(file)
    np.savez(feature_file, **data | {"features": data["features"] + 9})
    words = "detect.py", "--features", feature_file, "--output", tmp_path / "out", "--auto", "False"
    note = ("note: refinement took the labels of 120 of 120 rows to be wrong: relation is relation "
            "(initial)\n")
    for more in ((), ("--n_iter", 3)):
        shown = script(*words, "--kernel", "cos", *more).stdout
        assert note in shown and "refinement changed nothing" not in shown
        rows = read(tmp_path / "out")[0]
        assert all(row["relation_score"] == row["relation (initial)"] for row in rows)
        assert "True" not in (tmp_path / "out/suspects.csv").read_text()  # none of most is marked
    assert "refinement took" not in script(*words, "--kernel", "cos", "--n_iter", 1).stdout
    assert "refinement took" not in script(*words, "--kernel", "cos_p").stdout


@pytest.mark.parametrize("own", [True, False])
def test_a_noisy_set_of_most_rows_counts_in_the_published_experiments_alone(clusters, own):
    features, probs, labels, _ = clusters
    samples = Samples("", features + 9, probs, labels, own_data=own)
    settings = Settings(kernel="cos", auto=False)
    found = find_label_errors(samples, settings, progress=False)
    expected = relation.detect_label_noise(features + 9, probs, labels, kernel="cos",
                                           temperature=settings.temperature)
    assert expected.estimated_noise.all()
    assert torch.equal(found.scores["relation"], expected.scores) != own
    assert torch.equal(found.scores["relation"], found.scores["relation (initial)"]) == own
    assert any(("turned against the rest" in note) != own for note in found.notes
               if "refinement took" in note)


def test_suspects_on_screen(script, tmp_path, feature_file):
    """A network that repeats every label predicts nothing else; what is suggested does."""
    with np.load(feature_file) as file:
        data = dict(file)
    names = ["one", "two", "a name of many words, cut where it is too wide", "four"]
    np.savez(feature_file, **data | {"probs": np.eye(4)[data["labels"]], "class_names": names})
    words = "detect.py", "--features", feature_file, "--output", tmp_path / "out"
    head, *rows = script(*words).stdout.split("in scores.csv)\n")[1].splitlines()[:9]
    given, suggested, truth = (head.index(word) for word in ("given", "suggested", "is_noisy"))
    assert suggested - given == truth - suggested == len("a name of many words, c…  ")
    shown = {(row[given:suggested].strip(), row[suggested:truth].strip(), row[truth:])
             for row in rows}
    cut = "a name of many words, c…"
    assert shown == {("two", "one", "yes"), (cut, "two", "yes"), ("four", cut, "yes"),
                     ("one", "four", "yes")}
    assert "  predicted " in script(*words, "--auto", "False").stdout  # nothing is suggested


def test_several_epochs(script, refused, tmp_path, trained_digits):
    words = ("detect.py", "-n", "digits_noise0.2_20", "--cache_dir", trained_digits, "--output",
             tmp_path, "--graph", "off", "--verbose", "False")
    shown = script(*words, "--epochs", 10, 20).stdout
    assert "by relation (rank in scores.csv)" in shown  # an experiment, not one's own data
    rows, metrics = read(tmp_path)
    weights = metrics["epoch_weights"]
    assert weights["epoch 10"] > weights["epoch 20"] > 0
    assert sum(weights.values()) == pytest.approx(1)
    assert figures(metrics, "auto")["ap"] > 0.98
    assert f"epoch 10 ({weights['epoch 10']:.2f})" in shown
    assert "feat_train_30.pt" in refused(*words, "--epochs", 30)


@pytest.mark.parametrize("change, line", [
    (lambda data: data.pop("is_noisy"), "no truth in the data"),
    (lambda data: data.update(is_noisy=np.zeros(120, bool)), "no row is noisy (all): AUROC"),
    (lambda data: data["features"].__setitem__(3, 0), "1 of 120 rows have a feature of zeros"),
    (lambda data: data.update({key: value[:1] for key, value in data.items()}), "rows 1, "),
    (lambda data: data.update(probs=np.ones((120, 1)), labels=np.zeros(120, int)), "classes 1"),
])
def test_odd_data_have_finite_scores_and_a_line(script, tmp_path, feature_file, change, line):
    with np.load(feature_file) as file:
        data = dict(file)
    change(data)
    np.savez(feature_file, **data)
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out").stdout
    rows, metrics = read(tmp_path / "out")
    assert line in shown
    assert np.isfinite([float(row["relation_score"]) for row in rows]).all()
    assert all(row["ap"] is None for row in metrics["rows"]) or "zeros" in line or "classes" in line


@pytest.mark.parametrize("words, message", [
    (["--pow", "0"], "argument --pow: expected a number above 0, up to 1000, got '0'"),
    (["--chunk", "0"], "argument --chunk: expected a whole number of at least 1, got '0'"),
    (["--hop", "1.5"], "argument --hop: expected a whole number of at least 1, got '1.5'"),
    (["--thres", "nan"], "argument --thres: expected a number of at least 0, got 'nan'"),
    (["--kernel", "rbf"], "argument --kernel: invalid choice: 'rbf'"),
    (["--verbose", "maybe"], "argument --verbose: expected True or False, got 'maybe'"),
    (["--device", "tpu"], "argument --device: expected auto, cpu, cuda, cuda:N or mps"),
    (["--device", "cuda:99"], "--device cuda:99: 0 CUDA devices were found"),
    (["--bogus"], "unrecognized arguments: --bogus"),
    (["--probs", "mine"], "argument --probs: invalid choice: 'mine'"),
    (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
    (["--epochs", "10"], "--epochs: --features holds one epoch"),
    (["-n", "resnet50", "--epochs", "10"], "--epochs: the files of resnet50 carry no epoch"),
    (["--features", "nowhere.npz"], "nowhere.npz: no such file"),
    (["-n", "digits_noise0.08"], "expected an epoch after the last '_'"),
    (["-n", "../digits_60"], "--name '../digits_60': expected letters, digits"),
    (["-n", "digits_noise0.08_60"], "python download.py -n digits_noise0.08_60"),
])
def test_wrong_options_get_one_line(refused, tmp_path, feature_file, words, message):
    if words[0] not in ("--features", "-n"):
        words = ["--features", feature_file, *words]
    before = sorted(tmp_path.iterdir())
    line = refused("detect.py", *words, "--cache_dir", tmp_path, cwd=tmp_path)
    assert line.startswith("detect.py: error: ") and message in line
    assert sorted(tmp_path.iterdir()) == before  # nothing written


def test_wrong_file_writes_nothing(refused, tmp_path, feature_file, clusters):
    np.savez(feature_file, features=clusters[0], probs=clusters[1] * 2, labels=clusters[2])
    before = sorted(tmp_path.iterdir())
    assert "sum to 1" in refused("detect.py", "--features", feature_file, "--cache_dir", tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_unwritable_output(refused, tmp_path, feature_file):
    line = refused("detect.py", "--features", feature_file, "--output", feature_file / "report",
                   "--cache_dir", tmp_path, process=True)
    assert "report: cannot be written to" in line


def test_help_answers_without_the_heavy_libraries():
    code = ("import sys, runpy; sys.argv = ['detect.py', '--help']\n"
            "try: runpy.run_path('detect.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'timm', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--kernel" in done.stdout and "temperature" in done.stdout


def test_features_that_overflow_leave_tracin_out(script, tmp_path, feature_file):
    with np.load(feature_file) as file:
        data = dict(file)
    data["features"] = data["features"] * np.float32(1e25)
    np.savez(feature_file, **data)
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out").stdout
    assert "tracin is left out" in shown
    assert read(tmp_path / "out")[1]["rows"][-1]["ap"] == pytest.approx(1)


def test_copies_of_one_row(script, tmp_path):
    """Scores that differ in the last bit only still make a picture."""
    row = np.random.default_rng(0).normal(size=9)
    np.savez(tmp_path / "a.npz", features=np.float32([row * s for s in (1, 3, 7, 11, 13)]),
             probs=np.tile(np.float32([0.9, 0.1]), (5, 1)), labels=np.zeros(5, int))
    script("detect.py", "--features", tmp_path / "a.npz", "--output", tmp_path / "out")


def test_saved_parameters_and_extreme_options(script, refused, tmp_path, feature_file):
    with np.load(feature_file) as file:
        data = {key: torch.from_numpy(value) for key, value in file.items()}
    data["features"].requires_grad_()
    torch.save(data | {"weight": torch.nn.Parameter(torch.ones(4, 16))}, tmp_path / "a.pt")
    words = "detect.py", "--features", tmp_path / "a.pt", "--output", tmp_path / "out"
    script(*words, "--pow", "1000", "--kernel", "cos")
    assert "a number above 0, up to 1000, got '1001'" in refused(*words, "--pow", "1001")
    script(*words, "--hop", 10**20)
    assert "expected auto, cpu, cuda" in refused(*words, "--device", "cpu:")


@pytest.mark.parametrize("closed", [pytest.param((1,), marks=pytest.mark.slow),
                                    pytest.param((2,), marks=pytest.mark.slow), (1, 2)])
@pytest.mark.parametrize("words, status", [
    (["--help"], 0), (["--pow", "0"], 2), (["--features", "nowhere.npz"], 2)])
def test_an_output_that_is_closed_is_no_error(closed, words, status):
    """python detect.py … >&-"""
    code = "import os, sys; [os.close(int(n)) for n in sys.argv[1]]; os.execv(sys.executable, " \
        "[sys.executable, *sys.argv[2:]])"
    done = subprocess.run([sys.executable, "-c", code, "".join(map(str, closed)),
                           ROOT / "detect.py", *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert bool(done.stdout) == (status == 0 and 1 not in closed)
    assert len(done.stderr.splitlines()) == (status == 2 and 2 not in closed), done.stderr


def test_out_of_sample_scores_can_be_left_out(script, tmp_path, feature_file):
    script("detect.py", "--features", feature_file, "--output", tmp_path / "out", "--auto", "False")
    rows, metrics = read(tmp_path / "out")
    assert [row["name"] for row in metrics["rows"]] == NAMES
    assert list(rows[0])[-1] == "is_noisy" and "auto_score" not in rows[0]
