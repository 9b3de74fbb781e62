"""clean.py end to end: planted wrong labels and rows to drop, in every kind of data."""

import csv
import gzip
import json
import os
import shutil

import numpy as np
import pandas
import pytest
import soundfile
import timm
import torch

from experiment.command.escaping import cell
from experiment.inputs import feature_file
from language import demo
from language.data import Texts
from speech import models
from tests.imagenet_files import random_model, write_image
from tests.language.conftest import sentences
from tests.speech.conftest import RATE, randomised

HEADER = ("index", "name", "given_label", "decision", "new_label")


def table_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def decide(folder, *rows):
    """decisions.csv as report.html escapes it."""
    return write_csv(folder / "decisions.csv", [HEADER, *([cell(str(value)) for value in row]
                                                          for row in rows)])


def state(folder):
    """Everything about a folder that a script could change."""
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_mode,
                   path.read_bytes() if path.is_file() else None)
            for path in [folder, *folder.rglob("*")]}


def report(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def photos(tmp_path):
    """Four cats, of which 1 is a dog, and four dogs, of which 2.jpg is none; one name twice."""
    for seed, name in enumerate(["cat/0", "cat/1", "cat/2", "cat/old/3",
                                 "dog/1", "dog/2", "dog/5", "dog/6"]):
        write_image(tmp_path / f"photos/{name}.jpg", seed)
    return tmp_path / "photos"


@pytest.fixture
def found(tmp_path):
    return decide(tmp_path, (1, "cat/1.jpg", "cat", "relabel", "dog"),
                  (3, "cat/old/3.jpg", "cat", "relabel", "=new"),
                  (5, "dog/2.jpg", "dog", "drop", ""), (6, "dog/5.jpg", "dog", "keep", ""))


def test_images_and_their_table(script, tmp_path, photos, found):
    before = state(photos)
    shown = script("clean.py", "--decisions", found, "--image_dir", photos, "--to",
                   tmp_path / "cleaned").stdout.splitlines()
    assert shown == ["4 decisions: 1 keep, 2 relabel, 1 drop",
                     f"{photos}: 8 rows, 2 relabelled, 1 dropped; 7 rows of 3 classes are left",
                     "new class '=new': 1 of the rows",
                     f"written to {tmp_path}/cleaned: labels.csv, changes.csv"]
    assert table_of(tmp_path / "cleaned/labels.csv") == [
        ["path", "label"], ["../photos/cat/0.jpg", "cat"], ["../photos/cat/1.jpg", "dog"],
        ["../photos/cat/2.jpg", "cat"], ["../photos/cat/old/3.jpg", "=new"],
        ["../photos/dog/1.jpg", "dog"], ["../photos/dog/5.jpg", "dog"],
        ["../photos/dog/6.jpg", "dog"]]
    assert table_of(tmp_path / "cleaned/changes.csv") == [
        ["index", "name", "given_label", "change", "new_label", "reason"],
        ["1", "cat/1.jpg", "cat", "relabel", "dog", f"decided in {found}, line 2"],
        ["3", "cat/old/3.jpg", "cat", "relabel", "'=new", f"decided in {found}, line 3"],
        ["5", "dog/2.jpg", "dog", "drop", "", f"decided in {found}, line 4"]]
    assert state(photos) == before
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "decisions.csv", "cleaned"}


@pytest.mark.parametrize("how", ["copy", "link"])
def test_a_tree_of_class_folders_and_detect_again(script, tmp_path, photos, found, how):
    outside = tmp_path / "elsewhere.jpg"
    write_image(outside, 9)
    os.symlink(outside, photos / "dog/7.jpg")
    before = state(photos)
    shown = script("clean.py", "--decisions", found, "--image_dir", photos, "--to",
                   tmp_path / "cleaned", f"--{how}").stdout
    assert f"1 images are links that lead out of {photos} (dog/7.jpg)" in shown
    tree, origins = tmp_path / "cleaned/images", {
        "=new/old/3.jpg": "cat/old/3.jpg", "cat/0.jpg": "cat/0.jpg", "cat/2.jpg": "cat/2.jpg",
        "dog/1.jpg": "dog/1.jpg", "dog/1_from_cat.jpg": "cat/1.jpg", "dog/5.jpg": "dog/5.jpg",
        "dog/6.jpg": "dog/6.jpg", "dog/7.jpg": "dog/7.jpg"}
    files = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*.jpg")}
    assert {name: path.read_bytes() for name, path in files.items()} == \
        {name: (photos / origin).read_bytes() for name, origin in origins.items()}
    assert {path.is_symlink() for path in files.values()} == {how == "link"}
    rows = table_of(tmp_path / "cleaned/labels.csv")[1:]
    assert {path: label for path, label in rows} == \
        {f"images/{name}": name.split("/")[0] for name in origins}
    assert state(photos) == before

    network = tmp_path / "net"
    timm.models.save_for_hf(random_model("test_resnet", 3), network, model_config={})
    for words in (("--image_dir", tree), ("--image_csv", tmp_path / "cleaned/labels.csv")):
        script("detect.py", *words, "-n", network, "--output", tmp_path / words[0], "--cache_dir",
               tmp_path / "results", "--workers", 1, "--verbose", "False")
        assert report(tmp_path / words[0])["data"]["n"] == 8
        assert report(tmp_path / words[0])["data"]["classes"] == 3


def test_image_table_keeps_columns_order_and_quotation_marks(script, tmp_path, photos):
    (tmp_path / "lists").mkdir()
    table = tmp_path / "lists/photos.csv"
    here = photos / "dog/1.jpg"
    table.write_bytes(f'\ufeffnote, path ,label\r\n"a ""b""",../photos/cat/0.jpg,cat\r\n\r\n'
                      f'"=c\r\nd",../photos/cat/1.jpg, cat\r\ne,{here},dog\r\nf,,dog\r\n'
                      f'g,../photos/cat/2.jpg,\r\nh,gone.jpg,dog'.encode())
    found = decide(tmp_path, (1, "../photos/cat/1.jpg", "cat", "relabel", "dog"),
                   (5, "gone.jpg", "dog", "drop", ""))
    original = table.read_bytes()
    shown = script("clean.py", "--decisions", found, "--image_csv", table, "--to",
                   tmp_path / "cleaned").stdout
    assert "6 rows, 1 relabelled, 1 dropped; 5 rows of 2 classes are left" in shown
    assert (tmp_path / "cleaned/photos.csv").read_bytes().decode() == (
        '\ufeffnote, path ,label\r\n"a ""b""",../lists/../photos/cat/0.jpg,cat\r\n'
        f'"=c\r\nd",../lists/../photos/cat/1.jpg,dog\r\ne,{here},dog\r\nf,,dog\r\n'
        'g,../lists/../photos/cat/2.jpg,\r\n')
    assert table.read_bytes() == original


@pytest.mark.parametrize("header, words", [
    ("", []), ("Bild,Art\n", ["--path_column", "bild", "--label_column", "Art"])])
@pytest.mark.parametrize("option", ["--image_csv", "--csv"])
def test_a_compressed_table_without_usual_names(script, tmp_path, photos, header, words, option):
    """It is written as text, by the name of a text, with the header that it had."""
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(f"{header}photos/cat/0.jpg,cat\nphotos/cat/1.jpg,cat\nphotos/dog/1.jpg,dog\n")
    found = decide(tmp_path, (1, "photos/cat/1.jpg", "cat", "relabel", "dog"))
    script("clean.py", "--decisions", found, option, tmp_path / "t.csv.gz", "--to",
           tmp_path / "cleaned", *words)
    assert (tmp_path / "cleaned/t.csv").read_text() == (
        f"{header}../photos/cat/0.jpg,cat\n../photos/cat/1.jpg,dog\n../photos/dog/1.jpg,dog\n")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_texts_in_every_format_and_detect_again(script, tmp_path, ending):
    texts, labels = map(list, sentences(24))
    texts[5] = '=HYPERLINK(1), "quoted"' if ending != ".tsv" else 'a " in it'
    names = np.array(["negative", "positive"])
    frame = pandas.DataFrame({"stars": range(24), "review": texts, "mood": names[labels],
                              "number": [row / 4 for row in range(24)]})
    wrong = {3: frame["mood"][3], 10: frame["mood"][10]}
    frame.loc[list(wrong), "mood"] = [names[1 - labels[row]] for row in wrong]
    path = tmp_path / f"reviews{ending}"
    {".csv": lambda: frame.to_csv(path, index=False),
     ".tsv": lambda: frame.to_csv(path, index=False, sep="\t", quoting=3),
     ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
     ".json": lambda: frame.to_json(path, orient="records"),
     ".parquet": lambda: frame.to_parquet(path, index=False)}[ending]()
    found = decide(tmp_path, *((row, texts[row], frame["mood"][row], "relabel", right)
                               for row, right in wrong.items()),
                   (5, texts[5], frame["mood"][5], "drop", ""))
    words = "--csv", path, "--text_column", "review", "--label_column", "mood"
    script("clean.py", "--decisions", found, *words, "--to", tmp_path / "cleaned")
    read = {".csv": pandas.read_csv, ".tsv": lambda file: pandas.read_csv(file, sep="\t",
                                                                         quoting=3),
            ".jsonl": lambda file: pandas.read_json(file, lines=True), ".json": pandas.read_json,
            ".parquet": pandas.read_parquet}[ending]
    expected = frame.assign(mood=names[labels]).drop(5).reset_index(drop=True)
    cleaned = tmp_path / "cleaned" / path.name
    pandas.testing.assert_frame_equal(read(cleaned), expected, check_dtype=False)
    changes = table_of(tmp_path / "cleaned/changes.csv")[1:]
    assert [row[0] for row in changes] == ["3", "5", "10"]
    assert changes[1][1] == cell(texts[5])

    if ending == ".csv":
        made = demo.tiny_roberta(Texts("", (texts,), torch.tensor(labels), tuple(names)))
        made.model.roberta.save_pretrained(tmp_path / "backbone")
        made.tokenizer.save_pretrained(tmp_path / "backbone")
        script("language/detect.py", "--csv", cleaned, *words[2:], "-n", tmp_path / "backbone",
               "--cache_dir", tmp_path / "results", "--verbose", "False")
        assert report(tmp_path / "results/reviews/report")["data"]["n"] == 23


def test_sounds_and_detect_again(script, tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    rows = [(f"clips/{row}.wav", "abc"[(row + (row == 4)) % 3]) for row in range(18)]
    for row, (name, _) in enumerate(rows):
        wave = np.sin(np.arange(int(0.3 * RATE)) * 0.1 * (1 + row % 3)) / 4
        soundfile.write(tmp_path / name, wave + draw.normal(size=len(wave)) / 100, RATE)
    table = write_csv(tmp_path / "clips.csv", [("path", "label"), *rows])
    found = decide(tmp_path, (4, *rows[4], "relabel", "b"), (7, *rows[7], "drop", ""))
    script("clean.py", "--decisions", found, "--csv", table, "--to", tmp_path / "cleaned")
    expected = [[f"../{name}", "abc"[row % 3]] for row, (name, _) in enumerate(rows) if row != 7]
    assert table_of(tmp_path / "cleaned/clips.csv") == [["path", "label"], *expected]

    torch.manual_seed(0)
    network = randomised(models.new(classes=3, frames=32, width=64, depth=1))
    network.model.save_pretrained(tmp_path / "ast")
    network.front_end.save_pretrained(tmp_path / "ast")
    script("speech/detect.py", "--csv", tmp_path / "cleaned/clips.csv", "-n", tmp_path / "ast",
           "--cache_dir", tmp_path / "results", "--verbose", "False")
    assert report(tmp_path / "results/clips/report")["data"]["n"] == 17


@pytest.mark.parametrize("ending", [".npz", ".pt", ".safetensors"])
def test_features_by_the_tools_own_suggestions(script, tmp_path, clusters, ending):
    """All eight planted labels are found, corrected, and not found again."""
    from safetensors.torch import save_file

    features, probs, labels, is_noisy = clusters
    ids, names = [f"=row {row}" for row in range(120)], list("abcd")
    content = {"feat": features, "probs": probs, "labels": labels.to(torch.int8),
               "is_noisy": is_noisy, "weight": torch.ones(4, 16), "bias": torch.zeros(4)}
    path = tmp_path / f"train{ending}"
    if ending == ".npz":
        np.savez(path, **content, ids=np.array(ids), class_names=np.array(names), further=ids)
    elif ending == ".pt":
        torch.save(content | {"ids": ids, "class_names": names, "epoch": 3}, path)
    else:
        save_file(content, path, metadata={"ids": json.dumps(ids), "by": "us",
                                           "class_names": json.dumps(names)})
    script("detect.py", "--features", path, "--output", tmp_path / "report")
    words = "--automatic", tmp_path / "report/suspects.csv", "--features", path
    dry = script("clean.py", *words, "--min_score", 0, "--dry_run").stdout
    assert "8 labels suggested with a score of at least 0 are taken, 0 below it are not" in dry
    assert dry.endswith("dry run: nothing is written\n")
    shown = script("clean.py", *words, "--min_score", 0, "--to", tmp_path / "cleaned").stdout
    assert "is_noisy is left out: it describes the labels before the change" in shown
    none = script("clean.py", *words, "--min_score", 1, "--dry_run").stdout
    assert "0 labels suggested with a score of at least 1 are taken, 8 below it are not" in none

    script("detect.py", "--features", tmp_path / "cleaned" / path.name, "--output",
           tmp_path / "again")
    again = pandas.read_csv(tmp_path / "again/suspects.csv").sort_values("index")
    assert not again["is_label_issue"].any()
    assert again["given_name"].tolist() == [names[row % 4] for row in range(120)]
    changes = pandas.read_csv(tmp_path / "cleaned/changes.csv")
    assert changes["index"].tolist() == list(range(8))
    assert changes["name"].tolist() == [f"'=row {row}" for row in range(8)]


def test_features_without_some_rows(script, tmp_path, clusters):
    features, probs, labels, is_noisy = clusters
    np.savez(tmp_path / "train.npz", features=features, probs=probs, labels=labels,
             is_noisy=is_noisy, further=np.arange(120), other=np.arange(7), epoch=3)
    found = decide(tmp_path, (5, 5, 2, "drop", ""), (119, 119, 3, "drop", ""))
    shown = script("clean.py", "--decisions", found, "--features", tmp_path / "train.npz", "--to",
                   tmp_path / "cleaned").stdout
    assert "other is left out: it has no entry for each row" in shown
    kept = [row for row in range(119) if row != 5]
    with np.load(tmp_path / "cleaned/train.npz") as cleaned:
        assert set(cleaned) == {"features", "probs", "labels", "is_noisy", "further", "epoch"}
        assert cleaned["further"].tolist() == kept
        assert (cleaned["features"] == features[kept].numpy()).all()
        assert (cleaned["labels"] == labels[kept].numpy()).all()
        assert cleaned["is_noisy"].sum() == 7


@pytest.mark.parametrize("form", ["text", "text alone", "one-hot", "column", "float", "y"])
def test_labels_of_every_form_are_corrected(script, tmp_path, form):
    """Row 5, of class 2, goes to class 0, and row 7 goes."""
    names, labels = np.array(["cat", "dog", "ox"]), np.arange(30) % 3
    written = {"text": names[labels], "text alone": names[labels], "one-hot": np.eye(3)[labels],
               "column": labels[:, None], "float": labels.astype(np.float32), "y": labels}[form]
    content = {"features": np.eye(3)[labels], "logits": 4 * np.eye(3)[labels],
               "y" if form == "y" else "labels": written}
    if form == "text":
        content["class_names"] = names
    np.savez(tmp_path / "train.npz", **content)
    texts = form.startswith("text")
    found = decide(tmp_path, (5, 5, "ox" if texts else 2, "relabel", "cat" if texts else 0),
                   (7, 7, "dog" if texts else 1, "drop", ""))
    script("clean.py", "--decisions", found, "--features", tmp_path / "train.npz", "--to",
           tmp_path / "cleaned")
    expected = labels.copy()
    expected[5] = 0
    cleaned = feature_file.read(tmp_path / "cleaned/train.npz", labelled=True)
    assert cleaned.labels.tolist() == np.delete(expected, 7).tolist()


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
def test_features_of_tables_and_arrays(script, refused, tmp_path, ending):
    """Row 5, of class 2, goes to class 0, and row 7 goes; all else stays as it was."""
    labels = np.arange(30) % 3
    table = pandas.DataFrame({f"f{at}": np.eye(3)[labels][:, at] for at in range(3)} | {
        f"logit_{at}": 4 * np.eye(3)[labels][:, at] for at in range(3)} | {
        "label": labels, "note": [f"row {row}" for row in range(30)]})
    path = tmp_path / f"features{ending}"
    if ending == ".npy":
        for name, array in (("features", np.eye(3)[labels]), ("logits", 4 * np.eye(3)[labels]),
                            ("label", labels)):
            np.save(tmp_path / f"{name}.npy", array)
    else:
        table.to_csv(path, index=False) if ending == ".csv" else table.to_parquet(path)
    found = decide(tmp_path, (5, 5, 2, "relabel", 0), (7, 7, 1, "drop", ""))
    words = "clean.py", "--decisions", found, "--features", path, "--to", tmp_path / "cleaned"
    script(*words)
    expected = np.delete(np.where(np.arange(30) == 5, 0, labels), 7)
    cleaned = feature_file.read(tmp_path / "cleaned" / path.name, labelled=True)
    assert cleaned.labels.tolist() == expected.tolist()
    assert cleaned.features.argmax(1).tolist() == np.delete(labels, 7).tolist()
    if ending != ".npy":
        read = pandas.read_csv if ending == ".csv" else pandas.read_parquet
        after = read(tmp_path / "cleaned" / path.name)
        pandas.testing.assert_frame_equal(
            after, table.drop(7).assign(label=expected).reset_index(drop=True))
        table.assign(is_noisy=labels == 1).to_csv(tmp_path / "features.csv", index=False)
        assert "column 'is_noisy' describes the labels before the change; remove it first" in \
            refused(*words[:4], tmp_path / "features.csv", "--to", tmp_path / "other")


def test_what_the_page_exports(script, tmp_path, photos):
    """Labels as numbers with names beside them; a long name is left out."""
    found = write_csv(tmp_path / "decisions.csv", [
        ("index", "id", "suspect_rank", "given_label", "given_name", "decision", "new_label",
         "new_name"),
        (1, "cat/1.jpg", 1, 0, "cat", "relabel", 1, "dog"), (5, "", 2, 1, "dog", "drop", "", "")])
    script("clean.py", "--decisions", found, "--image_dir", photos, "--to", tmp_path / "cleaned")
    rows = dict(table_of(tmp_path / "cleaned/labels.csv"))
    assert rows["../photos/cat/1.jpg"] == "dog" and len(rows) == 8


@pytest.mark.parametrize("words, message", [
    ([], "expected --decisions or --automatic, and --image_dir, --image_csv, --csv or --features"),
    (["--decisions", "d.csv"], "expected --decisions or --automatic, and"),
    (["--decisions", "d.csv", "--automatic", "s.csv"], "--decisions and --automatic: two"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--csv", "x"], "two sources of data"),
    (["--decisions", "d.csv", "--image_dir", "photos"], "--to: expected the name of a new folder"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--to", "photos"], "photos: already there"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--to", "d.csv"], "d.csv: already there"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--to", "no/x"], "no/x: no folder no to"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--to", "photos/cat/x"],
     "photos/cat/x: lies in photos, which stays as it is"),
    (["--decisions", "d.csv", "--image_dir", "photos", "--to", "x", "--min_score", "1"],
     "--min_score: goes with --automatic only"),
    (["--decisions", "d.csv", "--image_csv", "x", "--to", "x", "--copy"],
     "--copy: goes with --image_dir only"),
    (["--decisions", "d.csv", "--image_dir", "x", "--to", "x", "--label_column", "a"],
     "--label_column: goes with --csv only"),
    (["--automatic", "d.csv", "--image_dir", "photos", "--to", "x", "--min_score", "2"],
     "expected a number from 0 to 1, got '2'"),
    (["--decisions", "none.csv", "--image_dir", "photos", "--to", "x"], "none.csv: no such file"),
    (["--decisions", "d.csv", "--image_dir", "nowhere", "--to", "x"], "nowhere: no such folder"),
])
def test_wrong_words_get_one_line(refused, tmp_path, photos, words, message):
    decide(tmp_path, (0, "cat/0.jpg", "cat", "drop", "")).rename(tmp_path / "d.csv")
    assert message in refused("clean.py", *words, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "d.csv"}


@pytest.mark.parametrize("row, message", [
    ((1, "cat/0.jpg", "cat", "drop", ""), "row 1 is 'cat/1.jpg', was 'cat/0.jpg'"),
    ((1, "cat/1.jpg", "dog", "drop", ""), "row 1, 'cat/1.jpg', has label 'cat', had 'dog'"),
    ((8, "dog/7.jpg", "dog", "drop", ""), "decisions.csv, line 2: row 8 of 8"),
    ((1, "cat/1.jpg", "cat", "relabel", "../x"), "new_label '../x': expected the name of a folder"),
    ((1, "cat/1.jpg", "cat", "relabel", ".."), "new_label '..': expected the name of a folder"),
])
def test_a_row_that_is_no_longer_the_same(refused, tmp_path, photos, row, message):
    found = decide(tmp_path, row)
    assert message in refused("clean.py", "--decisions", found, "--image_dir", photos, "--to",
                              tmp_path / "cleaned", "--copy")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "decisions.csv"}


def test_links_to_nothing_and_names_that_no_table_holds(script, refused, tmp_path, photos):
    words = "--image_dir", photos, "--to", tmp_path / "cleaned"
    os.symlink("nowhere.jpg", photos / "cat/9.jpg")
    kept = decide(tmp_path, (0, "cat/0.jpg", "cat", "keep", ""))
    assert "no file behind cat/9.jpg; remove such links, or decide to drop them" in \
        refused("clean.py", "--decisions", kept, *words, "--copy")
    os.remove(photos / "cat/9.jpg")
    strange = os.fsencode(photos) + b"/cat/\xff.jpg"
    shutil.copy(photos / "cat/0.jpg", strange)
    assert "this name is no Unicode" in refused("clean.py", "--decisions", kept, *words)
    found = decide(tmp_path, (3, "cat/\udcff.jpg", "cat", "drop", ""),
                   (4, "cat/old/3.jpg", "cat", "keep", ""))
    script("clean.py", "--decisions", found, *words, "--copy")
    assert len(list((tmp_path / "cleaned/images").rglob("*.jpg"))) == 8


def test_every_row_dropped(refused, tmp_path, feature_file):
    found = decide(tmp_path, *((row, row, (row + (row < 8)) % 4, "drop", "") for row in range(120)))
    assert "all 120 rows are dropped" in refused("clean.py", "--decisions", found, "--features",
                                                 feature_file, "--to", tmp_path / "cleaned")
