"""language/detect.py --csv: a table of texts with planted errors and what tables hold."""

import csv
import gzip
import json
from dataclasses import replace

import pandas
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from experiment.command.errors import InputError
from experiment.inputs.extraction import Extraction
from language import data, demo, features, models, own
from language.data import Texts
from tests.language.conftest import sentences

WRONG = set(range(0, 200, 20))
QUIET = Extraction(progress=False)


@pytest.fixture
def reviews():
    """200 sentences, ten of them with the wrong one of two labels."""
    texts, labels = sentences(200)
    names = ["positive" if (label == 1) != (row in WRONG) else "negative"
             for row, label in enumerate(labels)]
    return pandas.DataFrame({"review text": texts, "mood": names})


@pytest.fixture
def classifier(reviews):
    texts = Texts("", (reviews["review text"].tolist(),), torch.tensor([0, 1] * 100),
                  ("negative", "positive"))
    made = demo.tiny_roberta(texts)
    made.model.eval()
    return made


@pytest.fixture
def backbone(tmp_path, classifier):
    """A RoBERTa of random weights without a head, as language models are saved."""
    folder = tmp_path / "models/backbone"
    classifier.model.roberta.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


def report(folder):
    with open(folder / "suspects.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def detect(script, tmp_path, path, *words, **kwargs):
    return script("language/detect.py", "--csv", path, "--text_column", "review text",
                  "--label_column", "mood", *words, "--cache_dir", tmp_path / "results",
                  "--verbose", "False", **kwargs).stdout


def test_table_with_what_tables_hold(script, tmp_path, reviews, backbone):
    """The planted errors rank first, and what cannot be used is named."""
    odd = [("", "positive"), (" \n ", "negative"), ("NA", "positive"), ("no label here", ""),
           ("=HYPERLINK(1) is\n\"good\"", "positve"), ("הסרט is good", "positive")]
    path = tmp_path / "reviews.csv"
    pandas.concat([reviews, pandas.DataFrame(odd, columns=reviews.columns)]).to_csv(
        path, index=False)
    shown = detect(script, tmp_path, path, "-n", backbone)
    rows, metrics = report(tmp_path / "results/reviews/report")
    page = (tmp_path / "results/reviews/report/report.html").read_text(encoding="utf-8")
    assert rows[20]["text"] in page
    found = [int(row["index"]) for row in rows]
    assert WRONG | {204} == set(found[:11]) and len(rows) == 203
    assert sum(row["is_label_issue"] == "True" for row in rows) == metrics["estimated_wrong"] >= 9
    by_index = dict(zip(found, rows))
    assert by_index[0]["text"] == reviews["review text"][0]
    assert {by_index[0]["given_name"], by_index[0]["suggested_name"]} == {"negative", "positive"}
    assert by_index[204]["text"] == "'=HYPERLINK(1) is\n\"good\"" and by_index[202]["text"] == "NA"
    assert by_index[205]["text"].startswith("הסרט")
    for line in ("5-fold cross-validated (the network has no head of its own)",
                 "3 of 206 rows are left out (row 200: an empty text; row 201: an empty text; "
                 "row 203, no label here: no label)",
                 "suspect: positve (row 204, =HYPERLINK(1) is \"good\")"):
        assert line in shown, line
    assert [row["index"] for row in metrics["left_out"]] == [200, 201, 203]


def test_features_are_kept_while_they_fit(script, tmp_path, reviews, backbone, monkeypatch):
    path = tmp_path / "reviews.csv"
    reviews.to_csv(path, index=False)
    first = detect(script, tmp_path, path, "-n", backbone)
    asked = []
    extract = features.extract
    monkeypatch.setattr(features, "extract", lambda *words, **how: asked.append(1) or extract(
        *words, **how))
    assert detect(script, tmp_path, path, "-n", backbone).splitlines()[-1] == \
        first.splitlines()[-1] and not asked
    reviews.loc[3, "review text"] = "another one is good"
    reviews.to_csv(path, index=False)
    detect(script, tmp_path, path, "-n", backbone)
    assert len(asked) == 1
    weights = AutoModelForSequenceClassification.from_pretrained(backbone)
    with torch.no_grad():
        weights.roberta.embeddings.word_embeddings.weight.mul_(1.1)
    weights.roberta.save_pretrained(backbone)
    detect(script, tmp_path, path, "-n", backbone)
    detect(script, tmp_path, path, "-n", backbone, "--max_length", 5)
    assert len(asked) == 3


def test_feature_is_the_mean_over_the_tokens(tmp_path, classifier, backbone):
    found, has_head = models.load_backbone(str(backbone))
    assert not has_head
    texts = Texts("", (["the film is good", "bad"],), None, None)
    content = features.extract(found, texts, device=torch.device("cpu"), batch_size=2, mean=True)
    for row, text in enumerate(texts.columns[0]):  # one at a time: no padding
        batch = found.tokenizer(text, return_tensors="pt")
        hidden = classifier.model.roberta(**batch).last_hidden_state[0]
        torch.testing.assert_close(content["feat_mean"][row], hidden.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(content["feat_cls"][row], hidden[0], atol=1e-5, rtol=0)


def test_a_classifier_for_these_classes_is_asked_itself(tmp_path, reviews, classifier):
    folder = tmp_path / "mine"
    classifier.model.config.id2label = {0: "Positive", 1: "Negative"}
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    path = tmp_path / "reviews.jsonl"
    reviews.to_json(path, orient="records", lines=True)
    texts, rows = own.read(path, ["review text"], "mood")
    samples = own.load(texts, rows, tmp_path / "results", str(folder),
                       replace(QUIET, max_length=32))
    assert samples.class_names == ("Positive", "Negative") and not samples.out_of_sample
    assert [samples.class_names[label].lower() for label in samples.labels] == \
        reviews["mood"].tolist()
    batch = classifier.encode(([reviews["review text"][7]],), 32)
    out = classifier.model(**batch, output_hidden_states=True)
    torch.testing.assert_close(samples.features[7], out.hidden_states[-1][0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(samples.logits[7], out.logits[0], atol=1e-5, rtol=0)
    assert samples.media(7).content == reviews["review text"][7]


def test_pairs_and_other_columns(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\nhere\t\t3\nthere\tnow\t10\n\t\t3\n")
    texts, rows = own.read(path, None, None)
    assert texts == [("here", ""), ("there", "now"), ("", "")] and rows.index == (0, 1)
    assert rows.names == ("here |", "there | now")
    assert rows.numbered()[1] == ("3", "10")


def test_text_that_is_none_or_half_a_character(tmp_path):
    path = tmp_path / "odd.json"
    path.write_text('[{"text": null, "label": 1}, {"text": "a\\ud800b", "label": 1}, '
                    '{"text": 12, "label": 0}, {"text": "c", "label": null}]')
    texts, rows = own.read(path, None, None)
    assert [text.replace("?", "") for text, in texts] == ["", "ab", "12", "c"]
    assert rows.index == (1, 2) and rows.labels == ("1", "0")
    long = own._short(("word " * 40,))
    assert len(long) == own.NAME_LENGTH and long.endswith("…")


@pytest.mark.parametrize("words, message", [
    (["--csv", "nowhere.csv"], "nowhere.csv: no such file"),
    (["--csv", "table.txt"], "table.txt: expected a table ending in .tsv, .csv, .parquet"),
    (["--csv", "t.csv"], "t.csv: no column 'premise' and 'hypothesis', or 'sentence1'"),
    (["--csv", "t.csv", "--text_column", "a"],
     "t.csv: no column 'label', or 'gold_label', or 'given_name', or 'given_label'; found a, b "
     "(choose with --label_column)"),
    (["--csv", "t.csv", "--text_column", "a", "b", "c"], "expected one column, or two for pairs"),
    (["--csv", "t.csv", "--text_column", "x", "--label_column", "b"], "t.csv: no column 'x'; "
                                                                      "found a, b"),
    (["--csv", "t.csv", "--data_dir", "."], "--csv and --data_dir: two sources of data"),
    (["--csv", "t.csv", "--text_column", "a", "--label_column", "b", "-n", "folder"],
     "folder: not a model that transformers can load"),
    (["--csv", "t.csv", "--text_column", "b", "--label_column", "b"],
     "t.csv: none of 2 rows can be used: row 0: no label"),
    (["--csv", "h.csv"], "h.csv: expected at least one row, got none"),
])
def test_wrong_words_get_one_line(refused, tmp_path, words, message):
    (tmp_path / "table.txt").touch()
    (tmp_path / "t.csv").write_text("a,b\nx,\ny,\n" if "b" == words[-1] else "a,b\nx,1\ny,1\n")
    if words[-1] == "b" and "x" in words:
        (tmp_path / "t.csv").write_text("a,b\nx,1\n")
    (tmp_path / "h.csv").write_text("text,label\n")
    (tmp_path / "folder").mkdir()
    line = refused("language/detect.py", *words, "--cache_dir", tmp_path / "results", cwd=tmp_path)
    assert message in line
    assert not list(tmp_path.rglob("report"))


def test_a_model_that_the_hub_does_not_give(script, tmp_path, reviews, monkeypatch):
    def offline(source, **how):
        raise OSError(f"We couldn't connect for {source}\nsecond line")
    monkeypatch.setattr(models.AutoModelForSequenceClassification, "from_pretrained", offline)
    path = tmp_path / "reviews.csv"
    reviews.to_csv(path, index=False)
    done = script("language/detect.py", "--csv", path, "--text_column", "review text",
                  "--label_column", "mood", "--cache_dir", tmp_path / "results", check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "-n roberta-base: no such folder, and the hub does not give a model of that name (We " \
        "couldn't connect for roberta-base)" in done.stderr


def test_a_table_that_cannot_be_parsed(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text('text,label\na,1,2,3\n')
    with pytest.raises(data.InputError, match="broken.csv: not a readable .csv table"):
        own.read(path, None, None)


@pytest.mark.parametrize("labels, expected", [
    ([1.0, None, 0.0], ("1", "0")), (pandas.array([1, None, 0], dtype="Int64"), ("1", "0")),
    (["1", "-", "1.0"], ("1", "1"))])
@pytest.mark.parametrize("ending", [".parquet", ".json", ".csv"])
def test_one_class_whatever_holds_its_number(tmp_path, labels, expected, ending):
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": labels})
    path = tmp_path / f"t{ending}"
    getattr(frame, f"to_{ending[1:]}")(path)
    _, rows = own.read(path, None, None)
    assert rows.labels == expected and [row.reason for row in rows.left_out] == ["no label"]


@pytest.mark.parametrize("ending", [".parquet", ".json"])
def test_several_labels_of_a_text(tmp_path, ending):
    path = tmp_path / f"t{ending}"
    getattr(pandas.DataFrame({"text": ["a"], "label": [["x", "y"]]}), f"to_{ending[1:]}")(path)
    with pytest.raises(data.InputError, match="expected one for each row, got several"):
        own.read(path, None, None)


@pytest.mark.parametrize("name, content, notes", [
    ("t.csv", " Text ,LABEL\n{0},a\n{1},b\n{2},a\n", 0),
    ("t.tsv", "Label\tSENTENCE\na\t{0}\nb\t{1}\na\t{2}\n", 0),
    ("t.csv", "{0},a\n{1},b\n{2},a\n", 1), ("t.tsv", "a\t{0}\nb\t{1}\na\t{2}\n", 1),
    ("t.jsonl", '{{"id": 1, "text": "{0}", "label": ["a"]}}\n{{"text": "{1}", "label": ["b"]}}\n'
                '{{"text": "{2}", "label": ["a"], "Comments": []}}\n', 0)])
def test_tables_as_other_programs_export_them(tmp_path, name, content, notes):
    """Capitals and spaces in names, no header, doccano's lists of one label; compressed, too."""
    wanted = ["one film", "two films", "three films"]
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        text = content.format(*wanted).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        texts, rows = own.read(path, None, None)
        assert texts == [(text,) for text in wanted] and rows.labels == ("a", "b", "a")
        assert len(rows.notes) == notes


def test_two_columns_under_other_names_are_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("review,mood\nfine,good\nbad,bad\n")
    with pytest.raises(InputError, match="no column .*found review, mood .choose with --text_col"):
        own.read(tmp_path / "t.csv", None, None)
