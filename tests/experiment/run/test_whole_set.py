"""Outliers, copies and misspelt classes of a labelled set, and what is suggested for each row."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiment.detection import Output, report
from experiment.inputs.samples import Samples
from experiment.report import actions, scores, suspects
from experiment.report.page.evidence import find
from experiment.run import settings, whole_set
from experiment.run.label_errors import find_label_errors
from experiment.run.settings import Settings

CLASSES = ("circle", "square", "triangle", "star", "circel")
WRONG, ODD, MISSPELT = list(range(5)), [20, 21, 22], [30, 34]
EXACT, NEAR, CONFLICT = 240, 241, 242  # of rows 100, 101 and 102


@pytest.fixture
def planted():
    """240 rows of four classes, with everything wrong that there can be, and three copies."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(240) % 4
    features = 6 * torch.eye(24)[true] + torch.randn(240, 24, generator=generator)
    features[ODD] = 12 * torch.randn(3, 24, generator=generator)
    copied = features[[100, 101, 102]].clone()
    copied[1] += 1e-3
    labels = torch.cat([true, true[[100, 101]], (true[[102]] + 1) % 4])
    labels[WRONG] = (labels[WRONG] + 1) % 4
    labels[MISSPELT] = 4
    features[MISSPELT] = 6 * torch.eye(24)[0] + torch.randn(2, 24, generator=generator)
    probs = torch.nn.functional.pad(torch.softmax(4 * torch.eye(4)[true], 1), (0, 1))
    probs = torch.cat([probs, probs[[100, 101, 102]]])
    return Samples("planted", torch.cat([features, copied]), probs, labels, own_data=True,
                   class_names=CLASSES)


def found(samples, **settings):
    return find_label_errors(samples, Settings(device="cpu", **settings), progress=False)


def test_everything_that_is_wrong_is_found_and_said_once(planted, tmp_path):
    result = found(planted)
    whole, advice = result.whole_set, actions.of(result)
    assert whole.outliers.is_outlier[ODD].all()
    assert whole.outliers.is_outlier.sum() <= len(ODD) + 5
    assert whole.copies.groups[[100, EXACT]].tolist() == [0, 0]
    assert whole.copies.groups[[101, NEAR]].tolist() == [1, 1]
    assert whole.is_conflict.nonzero()[:, 0].tolist() == [102, CONFLICT]
    assert [(one.name, one.suggested, one.rows) for one in whole.same_names] == [
        ("circel", "circle", 2)]
    assert result.verdict.suggested_labels[MISSPELT].tolist() == [0, 0]
    assert whole.facts["duplicates"]["groups"] == 3 and whole.facts["duplicates"]["rows"] == 6
    assert whole.facts["duplicates"]["conflicts"] == 1
    text = "\n".join(whole.statement)
    for part in ("false-alarm rate of 1 %", "6 rows in 3 groups, 4", "several labels: 1",
                 "'circel' (2 rows) is probably 'circle'"):
        assert part in text
    suggested, reasons = advice.suggested(), advice.reasons(planted.index.numpy())
    assert set(suggested[[*ODD, EXACT, NEAR, CONFLICT]]) == {"drop"}  # the wrong one of two goes
    assert (suggested[WRONG] == "relabel").sum() >= 4  # as many as are estimated to be wrong
    assert set(suggested[MISSPELT]) == {"relabel"} and suggested[102] == ""
    assert reasons[CONFLICT].startswith("wrong label; copy of row 102; copies with several")
    assert reasons[EXACT] == "copy of row 100" and reasons[MISSPELT[0]] == "misspelt class name"
    suspects.write(result, tmp_path)
    with open(tmp_path / "suspects.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["index"] for row in rows}) == len(rows) == 243
    assert {int(row["index"]) for row in rows if "outlier" in row["reasons"]} == set(
        whole.outliers.is_outlier.nonzero()[:, 0].tolist())


def test_columns_stand_after_the_known_ones(planted, tmp_path):
    result = found(planted)
    columns = scores.columns_of(result)
    assert list(columns)[-5:] == ["suggested_label", "outlier_score", "is_outlier",
                                  "duplicate_group", "is_conflict"]
    scores.write_metrics(result, tmp_path, options={})
    saved = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert saved["outliers"]["false_alarm_rate"] == 0.01 and saved["duplicates"]["groups"] == 3
    assert saved["same_names"] == [{"name": "circel", "suggested": "circle", "rows": 2}]


def test_duplicates_as_asked_for(planted):
    assert found(planted, duplicates="off").whole_set.copies is None
    assert "duplicates" not in found(planted, duplicates="off").further
    assert len(found(planted, duplicates=0.9999999).whole_set.copies.sizes) == 2
    assert found(planted, auto=False).whole_set is None
    asked = found(planted, auto=False, duplicates="auto")
    assert len(asked.whole_set.copies.sizes) == 3 and asked.verdict is None
    assert actions.of(asked).suggested()[EXACT] == "drop"


def test_many_rows_are_looked_at_on_request(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "FEW_ROWS", 10)
    many = found(planted)
    assert many.whole_set is None and many.verdict is not None and "auto" in many.scores
    assert any("--duplicates auto does" in note for note in many.notes)
    report(many, tmp_path, Output({}))
    assert "is_outlier" not in (tmp_path / "suspects.csv").read_text().splitlines()[0]
    assert found(planted, duplicates="auto").whole_set is not None


def test_the_copy_that_is_no_outlier_and_least_suspect_stays():
    groups, is_outlier = torch.tensor([0, 0, -1, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0, 0]).bool()
    score = torch.tensor([0.5, 0.2, 0.9, 0.1, 0.3, 0.3])
    is_open = np.ones(6, bool)
    rest = is_outlier.numpy(), score
    assert actions._copy_of(groups, is_open, *rest).tolist() == [1, -1, -1, 1, -1, 4]
    is_open[3] = False  # reviewed: it stays
    assert actions._copy_of(groups, is_open, *rest).tolist() == [3, 3, -1, -1, -1, 4]


def test_files_of_the_same_bytes_and_texts_that_read_the_same(planted, tmp_path):
    contents = ["a", "bb", "a", "cc", "bb"]
    paths = []
    for row, content in enumerate(contents):
        paths.append(str(tmp_path / f"{row}.bin"))
        (tmp_path / f"{row}.bin").write_text(content)
    some = replace(planted.every(60), content={"filepath": paths})
    (numbers,) = whole_set.contents_of(some)
    assert numbers[0] == numbers[2] != numbers[1] == numbers[4] and len(numbers.unique()) == 3
    (tmp_path / "2.bin").unlink()
    assert len(next(whole_set.contents_of(some)).unique()) == 4
    texts = ["caf\u00e9 au  lait", "cafe\u0301 au lait\n", "Cafe au lait", "x", "x "]
    (numbers,) = whole_set.contents_of(replace(some, content={"text": texts}))
    assert numbers.tolist() == [0, 0, 1, 2, 2]
    assert list(whole_set.contents_of(planted, planted)) == [None, None]
    both = list(whole_set.contents_of(replace(some, content={"text": texts}),
                                      replace(some, content={"text": texts[::-1]})))
    assert both[1].tolist() == [2, 2, 1, 0, 0]


def test_a_row_copied_with_its_wrong_label_does_not_vouch_for_itself(planted):
    """Twenty copies of one wrong label: together they look like a class of their own."""
    copies = [7] * 20
    labels = planted.labels.clone()
    labels[7] = (labels[7] + 1) % 4
    many = replace(planted, **{name: torch.cat([values, values[copies]]) for name, values in
                               (("features", planted.features), ("probs", planted.probs),
                                ("labels", labels))}, index=None)
    trusting, once = found(many, duplicates="off"), found(many)
    assert trusting.scores["auto"][7] < 0.5 < 0.9 < once.scores["auto"][7]
    assert (once.scores["auto"][-20:] == once.scores["auto"][7]).all()
    assert (once.verdict.suggested_labels[-20:] == 3).all()
    assert actions.of(once).is_issue[[7, *range(243, 263)]].all()
    support = find(once, torch.tensor([7]))[0].support
    assert not {related.row for related in support} & {7, *range(243, 263)}


def test_leaked_files_and_texts_are_exact_copies(planted):
    test = replace(planted.every(60), features=planted.features[::60] + 1, labels=None,
                   content={"text": ["a  text", "other", "new", "text 7", "x"]})
    train = replace(planted, content={"text": [f"text {row}" for row in range(241)] +
                                      ["a text", "a text"]})
    found = whole_set.find_leakage(train, test, Settings(duplicates="auto"), progress=False)
    assert found.rows.tolist() == [241, -1, -1, 7, -1]
    assert found.is_exact.tolist() == [True, False, False, True, False]
