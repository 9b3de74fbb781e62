import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from experiment.report import suspects
from experiment.report.page import contents, html, plots
from experiment.report.page.evidence import EACH, find
from tests.conftest import ROOT
from tests.dense import dense_relation
from tests.experiment.report.page.conftest import CLASSES, SETTINGS, embedded


def test_evidence_is_the_most_related_on_either_side(found, clusters):
    result = found()
    features, probs, labels, _ = clusters
    r = dense_relation(features, probs, labels)
    for row, (support, against) in zip([0, 3, 50], find(result, torch.tensor([0, 3, 50]))):
        others = [other for other in range(120) if other != row]
        expected = sorted((other for other in others if r[row, other] > 0),
                          key=lambda other: -r[row, other])[:EACH]
        assert [related.row for related in support] == expected
        expected = sorted((other for other in others if r[row, other] < 0),
                          key=lambda other: r[row, other])[:EACH]
        assert [related.row for related in against] == expected
        for related in support + against:
            assert related.r == pytest.approx(r[row, related.row], abs=1e-5)


def test_evidence_where_wrong_labels_were_memorised(found, written, clusters):
    """The network repeats every label; the rows of the true class still contradict it."""
    result = found(probs=torch.eye(4)[clusters[2]])
    for row, (support, against) in enumerate(find(result, torch.arange(8))):
        assert {related.row % 4 for related in against} == {row % 4}
        assert -against[0].r > max((related.r for related in support), default=0)
    said = "leave-one-out probabilities"
    assert said in written(result)[1]["evidence"] and not written(found())[1]["evidence"]


def test_evidence_of_an_outlier_is_its_nearest_training_rows(outliers):
    (support, against), = find(outliers, torch.tensor([5]))
    assert against == [] and len(support) == EACH
    train, test = outliers.train, outliers.samples
    r = dense_relation(test.features[:6], test.probs[:6], None, train.features, train.probs)[5]
    assert [related.row for related in support] == np.argsort(-r)[:EACH].tolist()


def test_evidence_where_nothing_is_related(samples):
    """Two rows at a right angle, and one of zeros: no relation to any other row."""
    lone = samples(features=torch.eye(3), probs=torch.eye(3, 4), labels=torch.arange(3),
                   is_noisy=None, ids=None)
    result = contents.Result(lone, SETTINGS, {"relation": torch.zeros(3)}, None, [], "", {})
    assert find(result, torch.arange(3)) == [([], [])] * 3
    assert find(result, torch.arange(0)) == []


def test_rows_are_in_the_order_of_suspicion(found, written):
    result = found("image")
    data = written(result)[1]
    order = np.argsort(-result.relation_score.numpy(), kind="stable")
    rows = data["rows"]
    assert rows["index"] == order.tolist() and data["score"] == "relation"
    assert rows["given"] == result.samples.labels[order].tolist()
    assert rows["positive"][:8] == [1] * 8 and sum(rows["positive"]) == 8
    assert rows["suggested"] == result.verdict.suggested_labels[order].tolist()
    assert rows["voted"] == result.verdict.voted_labels[order].tolist()
    assert rows["voted"][:8] == [int(row) % 4 for row in order[:8]]  # the true class
    assert rows["name"] == [result.samples.ids[row] for row in order]
    by_auto = np.argsort(-result.scores["auto"].numpy(), kind="stable").tolist()
    assert [by_auto[place] for place in rows["auto"]] == rows["index"]
    assert [bits & 1 for bits in data["findings"]["bits"]] == suspects.table(
        result)["is_label_issue"].astype(int).tolist()
    assert data["classes"] == list(CLASSES) and data["total"] == 120


def test_own_data_are_listed_by_auto(found, written):
    result = found(own_data=True, held_out=None)
    data = written(result)[1]
    assert data["score"] == "auto" and data["rows"]["auto"] is None
    by_auto = np.argsort(-result.scores["auto"].numpy(), kind="stable")
    assert data["rows"]["index"] == by_auto.tolist()
    assert data["summary"][0].startswith("Probabilities as they were given: whether the network")


@pytest.mark.parametrize("held_out, probs, words", [
    (False, "model", "In-sample probabilities: the network was trained on these rows"),
    (True, "model", "Out-of-sample probabilities: the network was trained on other rows"),
    (False, "loo", "Out-of-sample probabilities: leave-one-out"),
])
def test_where_probabilities_come_from(found, written, held_out, probs, words):
    result = found(settings=replace(SETTINGS, probs=probs), held_out=held_out)
    assert written(result)[1]["summary"][0].startswith(words)


def test_without_auto_and_without_truth(found, written):
    result = found(settings=replace(SETTINGS, auto=False), is_noisy=None, ids=None,
                   class_names=None)
    data = written(result)[1]
    assert [name for name, column in data["rows"].items() if column is None] == \
        ["name", "cut", "voted", "suggested", "auto", "positive"]
    assert data["curves"] == [] and data["metrics"] == [] and data["classes"] == list("0123")
    assert data["histogram"]["names"] == ["all rows"] and data["media"] == []
    assert len(data["suspects"]) == 120 and data["suspects"][0]["media"] is None


@pytest.mark.parametrize("kind, row, problem", [
    ("image", 1, "1.jpg: not a readable picture"), ("text", 2, "an empty text"),
    ("sound", 3, "2 s of silence")])
def test_what_cannot_be_shown_is_named(found, written, kind, row, problem):
    data = written(found(kind), show=30)[1]
    entries = {data["rows"]["index"][rank]: data["media"][suspect["media"]]
               for rank, suspect in enumerate(data["suspects"])}
    assert list(entries[row]) == ["problem"] and problem in entries[row]["problem"]
    note = data["notes"][-1]
    assert re.match(rf"\d+ of \d+ samples could not be shown: row {row}: .*{problem}", note)
    assert all(list(entry) == [kind] for other, entry in entries.items() if other != row)


def test_a_class_of_one_row_is_named(found, written, clusters):
    labels = clusters[2].clone()
    labels[labels == 2] = 1
    labels[5] = 2
    note = ("1 of 4 classes have a single row, which nothing of its class can support, so that it "
            "ranks as suspect: כלב גדול (row 5")
    assert any(line.startswith(note) for line in written(found(labels=labels))[1]["notes"])


def test_every_sample_is_there_once(found, written):
    data = written(found("image"))[1]
    pictures = [entry["image"] for entry in data["media"] if "image" in entry]
    assert len(pictures) == len(set(pictures)) == 119 and len(data["media"]) == 120
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)


def test_how_many_are_shown(found, written, monkeypatch):
    assert len(written(found("sound"))[1]["suspects"]) == contents.SHOWN["sound"] == 50
    assert len(written(found("text"))[1]["suspects"]) == 120
    shown = written(found("text"), show=7)[1]
    assert len(shown["suspects"]) == 7 and len(shown["rows"]["index"]) == 120
    assert written(found("text"), show=0)[1]["media"] == []
    monkeypatch.setattr(contents, "MEDIA_SIZE", 10_000)
    data = written(found("text"))[1]  # text by text, until there are 10,000 characters
    size = sum(len(entry.get("text", "")) for entry in data["media"])
    assert 10_000 < size < 14_000 and 1 <= len(data["suspects"]) < 40
    assert len(written(found("text"), show=100)[1]["suspects"]) == 100  # asked for is asked for


def test_more_rows_than_can_be_listed(found, written, monkeypatch):
    monkeypatch.setattr(contents, "ROWS", 40)
    monkeypatch.setattr(contents, "NAMES_SIZE", 40 * 10)
    monkeypatch.setattr(contents, "SHORTEST_NAME", 10)
    data = written(found(ids=["x" * 10] * 60 + ["y" * 11] * 60))[1]
    assert data["total"] == 120 and len(data["rows"]["index"]) == 40
    assert set(data["rows"]["name"]) == {"x" * 10, "yyyyyy…yyy"}
    assert data["rows"]["cut"] == [int("…" in name) for name in data["rows"]["name"]]


def test_outliers(outliers, written):
    data = written(outliers)[1]
    assert data["title"] == "Outliers" and data["words"] == ["ID", "OOD"]
    assert data["rows"]["given"] is None and data["rows"]["positive"][:10] == [1] * 10
    assert data["summary"] == [
        "Out-of-sample probabilities: test rows, compared with 60 training rows (somewhere)."]
    related = data["suspects"][-1]["support"][0]
    shown = data["media"][related["media"]]["image"]
    assert shown == "data:image/png;base64," + base64.b64encode(
        outliers.train.media(int(related["name"].split()[1])).content).decode()


def test_histogram_counts_every_row(found, outliers):
    bars = plots.histogram(found())
    assert [sum(counts) for counts in bars["counts"]] == [112, 8]
    assert bars["names"] == ["clean", "wrong"] and not bars["logarithmic"]
    bars = plots.histogram(outliers)
    assert [sum(counts) for counts in bars["counts"]] == [40, 20] and bars["logarithmic"]
    score = outliers.relation_score.double().log10()
    assert bars["edges"][0] == pytest.approx(score.min()) and len(bars["edges"]) == 61


def test_thinned_curve_keeps_its_area(found):
    draw = np.random.default_rng(0)
    truth = draw.random(20_000) < 0.1
    scores = truth + draw.normal(size=20_000)
    curve = plots._curve(truth, scores)
    recall, precision = np.array(curve["recall"]), np.array(curve["precision"])
    assert len(recall) < 210 and recall[0] == 1 and recall[-1] == 0 and (np.diff(recall) <= 0).all()
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(average_precision_score(truth, scores), abs=0.01)


def test_data_cannot_leave_their_script(found, written):
    path, data = written(found("text"), pow="</script><script>alert(2)</script>")
    page = path.read_text(encoding="utf-8")
    inside = page.split('id="data">')[1].split("</script>")[0]
    assert not re.search("[<>&\u2028\u2029]", inside)
    assert data["settings"]["pow"] == "</script><script>alert(2)</script>"
    assert page.count("</script>") == 2 and "alert(1)</script>" not in page


def test_names_that_are_no_text(found, written):
    """A file name of bytes that are not UTF-8, as os.fsdecode gives it."""
    data = written(found(ids=["\udcff.jpg"] * 120))[1]
    assert data["rows"]["name"][0] == "\udcff.jpg"


def test_the_policy_allows_this_script_and_style_and_nothing_else(found, written):
    page = written(found("image"))[0].read_text(encoding="utf-8")
    policy = re.search('Content-Security-Policy" content="(.*?)"', page)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == rules["media-src"] == "data:"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|//[a-z]+\.|\bon\w+=|<link|<iframe|url\(|@import", page)


def test_scripts_set_text_never_markup():
    scripts = sorted((ROOT / "experiment/report/page/browser").glob("*.js"))
    for path in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|"
                             r"fetch\(|XMLHttpRequest|import\(", path.read_text()), path.name
    assert set(html.SCRIPTS) == {path.name for path in scripts}


def test_every_script_writes_a_page(script, tmp_path, feature_file):
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out",
                   "--show", 5).stdout
    assert shown.splitlines()[-1].endswith("scores.png, report.html")
    data = embedded(tmp_path / "out/report.html")
    assert len(data["suspects"]) == 5 and data["settings"]["features"] == str(feature_file)
    script("detect_ood.py", "--features", feature_file, "--test_features", feature_file,
           "--baselines", "MSP", "--output", tmp_path / "ood", "--show", 3)
    data = embedded(tmp_path / "ood/report.html")
    assert data["title"] == "Outliers" and len(data["suspects"]) == 3


def test_show_takes_a_number(refused, feature_file):
    assert "expected a whole number of at least 0, got 'all'" in \
        refused("detect.py", "--features", feature_file, "--show", "all")


def test_a_number_of_wrong_labels_is_shown_where_it_is_claimed(found):
    result = found()
    verdict = result.verdict
    for between, shown in (([3, 9], True), (None, False)):
        facts = {**verdict.facts, "wrong_between": between}
        names = dict(contents._facts(replace(result, verdict=replace(verdict, facts=facts))))
        assert ("labels estimated wrong" in names) is shown
