import csv
import importlib.util

import numpy as np
import pandas
import pytest
import torch

from experiment.inputs.samples import Samples
from experiment.report import suspects
from experiment.run.label_errors import find_label_errors
from experiment.run.settings import Settings

SETTINGS = Settings(kernel="cos_p", temperature=4, threshold=0.03, hop=1, chunk=250,
                            dtype="float32", device="cpu")
HOSTILE = ['=1+1', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx", 'say "hi", twice',
           "two\nlines\r\nof it", "שלום עולם", "'quoted'", "-1", "+2.5e3", " ", "\udcff.jpg", "a,b"]


def found(clusters, settings=SETTINGS, **known):
    features, probs, labels, _ = clusters
    samples = Samples("data", features, probs, labels, own_data=True, **known)
    return find_label_errors(samples, settings, progress=False)


@pytest.fixture
def hostile(clusters):
    """Rows 0 to 14 have names and texts that break tables, or spreadsheets."""
    texts = [*HOSTILE, *(f"text {row}" for row in range(len(HOSTILE), 120))]
    return texts, found(clusters, ids=texts, content={"text": texts},
                        index=torch.arange(120) * 3, class_names=["-1", "=a", "b", "c"])


def test_rows_by_suspicion_in_the_words_of_other_tools(tmp_path, clusters):
    labels = clusters[2]
    files = [f"/images/{row}.jpg" for row in range(120)]
    names = suspects.write(found(clusters, content={"filepath": files}), tmp_path)
    assert names == ["suspects.csv", "suspects.parquet"]
    table = pandas.read_csv(tmp_path / "suspects.csv", keep_default_na=False)
    assert list(table) == ["index", "suspect_rank", "id", "filepath", "given_label",
                           "suggested_label", "is_label_issue", "label_score",
                           "outlier_score", "is_outlier", "duplicate_group", "is_conflict",
                           "reasons", "suggested_action"]
    wrong = table["is_label_issue"]
    assert set(table["reasons"][wrong]) == {"wrong label"} and not table["reasons"][~wrong].any()
    assert set(table["suggested_action"][wrong]) == {"relabel"}
    assert table["suspect_rank"].tolist() == list(range(1, 121))
    assert set(table["index"][:8]) == set(range(8))
    assert table["is_label_issue"].sum() == 8 and table["is_label_issue"][:8].all()
    assert table["label_score"].is_monotonic_increasing
    assert table["label_score"].between(0, 1).all()
    ordered = table.sort_values("index")
    assert ordered["given_label"].tolist() == labels.tolist()
    assert ordered["suggested_label"].tolist() == (torch.arange(120) % 4).tolist()
    assert ordered["filepath"].tolist() == files
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "suspects.parquet"),
                                      table.astype({"id": str}), check_dtype=False)


def test_hostile_text_survives_and_is_no_formula(tmp_path, hostile):
    texts, result = hostile
    suspects.write(result, tmp_path)
    with open(tmp_path / "suspects.csv", newline="", encoding="utf-8") as file:
        table = {int(row["index"]) // 3: row for row in csv.DictReader(file)}
    exact = pandas.read_parquet(tmp_path / "suspects.parquet").set_index("index")
    for row, text in enumerate(texts):
        text = text.replace("\udcff", "\\udcff")  # no character, so no file can hold it
        written = table[row]["text"]
        assert written in (text, f"'{text}") and written == table[row]["id"]
        assert exact["text"][3 * row] == text
        for cell in table[row].values():
            assert cell.lstrip()[:1] not in tuple("=+-@") or float(cell)
    assert table[0]["text"] == "'=1+1" and table[10]["text"] == "-1"
    assert {row["given_name"] for row in table.values()} == {"-1", "'=a", "b", "c"}
    assert set(exact["given_name"]) == {"-1", "=a", "b", "c"}


def test_without_auto_the_noisy_set_of_the_relation(tmp_path, clusters):
    settings = Settings(**{**vars(SETTINGS), "auto": False})
    suspects.write(found(clusters, settings), tmp_path)
    table = pandas.read_csv(tmp_path / "suspects.csv")
    assert set(table["index"][table["is_label_issue"]]) == set(range(8))
    assert table["label_score"].is_monotonic_increasing


def test_without_pyarrow_no_parquet(tmp_path, clusters, monkeypatch):
    result = found(clusters)
    suspects.write(result, tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert suspects.write(result, tmp_path) == ["suspects.csv"]
    assert not (tmp_path / "suspects.parquet").exists()  # it would be of the earlier run


def test_cleanlab_takes_the_table(tmp_path, clusters):
    from cleanlab.classification import CleanLearning
    from sklearn.linear_model import LogisticRegression

    features, _, labels, is_noisy = clusters
    suspects.write(found(clusters), tmp_path)
    issues = pandas.read_csv(tmp_path / "suspects.csv").sort_values("index", ignore_index=True)
    learning = CleanLearning(LogisticRegression())
    learning.fit(features.numpy(), labels.numpy(), label_issues=issues)
    # Trained without the wrong labels, it predicts the true ones.
    assert (learning.predict(features.numpy()) == np.arange(120) % 4).all()
    assert learning.label_issues_mask.tolist() == is_noisy.tolist()
