"""Images, texts and sounds with everything wrong that there can be: found in one run, decided by
somebody who knows the truth and sees nothing but the page, and cleaned."""

import random
import shutil

import numpy as np
import pandas
import pytest
import soundfile
import torch
from PIL import Image

from language import demo
from language.data import Texts
from tests.imagenet import test_own_images as images
from tests.language.conftest import BLAME, PRAISE, THINGS
from tests.speech import conftest as clips

network = images.network
ast = clips.network
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Planted:
    """What is wrong with rows, by their names; truth: the right label, None for no place at all."""

    def __init__(self):
        self.given, self.truth, self.kinds = {}, {}, {}
        self.pairs = []  # a row and its copy

    def add(self, name, given, truth=None, kind=None):
        self.given[name], self.truth[name] = given, truth
        if kind:
            self.kinds.setdefault(kind, []).append(name)

    def copy(self, name, of, kind, given=None):
        self.add(name, given or self.given[of], kind=kind)
        self.pairs.append((of, name))

    def decision(self, name):
        """What somebody would decide who knows the truth."""
        truth = self.truth[name]
        return ("drop", None) if truth is None else ("keep", None) if truth == self.given[name] \
            else ("relabel", truth)


@pytest.fixture
def decide(chromium, tmp_path):
    """A function that opens a report, decides every row of its tabs, and exports the decisions."""
    def run(report, planted, name_of):
        page = chromium.new_page(offline=True, accept_downloads=True)
        page.goto((report / "report.html").as_uri())
        index, decided = page.evaluate("data.rows.index"), set()
        for tab in ("Wrong labels", "Outliers", "Duplicates"):
            page.locator("#tabs button", has_text=tab).click()
            assert page.inner_text("#pages") == "of 1"
            for item in page.locator("#rows > li").all():
                name = name_of[index[int(item.get_attribute("data-position"))]]
                if name in decided:
                    continue
                decided.add(name)
                decision, label = planted.decision(name)
                item.locator(f"[data-decision={decision}]").click()
                field = item.locator(".new-label input")
                if label and field.input_value() != label:
                    field.fill(label)
                    field.press("Tab")
        with page.expect_download() as download:
            page.click("#export")
        download.value.save_as(tmp_path / "decisions.csv")
        page.close()
        return decided
    return run


def found_in(report, planted, name_of):
    """suspects.csv by name. What was planted is found, and little else."""
    table = pandas.read_csv(report / "suspects.csv", keep_default_na=False)
    table.index = [name_of[row] for row in table["index"]]
    assert len(table) == len(planted.given)
    kinds, group = planted.kinds, table["duplicate_group"]
    for name, copy in planted.pairs:
        assert group[name] == group[copy] >= 0
        assert "drop" in table["suggested_action"][[name, copy]].tolist()
    assert (group >= 0).sum() <= 2 * len(planted.pairs) + 2  # one in a hundred is no copy
    assert table["is_conflict"][[name for pair in planted.pairs for name in pair
                                 if pair[1] in kinds["conflict"]]].all()
    assert table["is_conflict"].sum() <= 2 * len(kinds["conflict"]) + 2
    assert table["is_outlier"][kinds["outlier"]].mean() > 0.6
    assert table["is_outlier"].sum() <= len(kinds["outlier"]) + 0.03 * len(table)  # false alarms
    assert table["is_label_issue"][kinds["wrong"]].mean() > 0.8
    assert all(table["suggested_name"][name] == planted.truth[name] for name in kinds["misspelt"])
    assert all("misspelt" in table["reasons"][name] for name in kinds["misspelt"])


def is_clean(left, planted, decided):
    """`left`: labels by name in the cleaned data. All is right but for what was not found."""
    assert left == {
        name: label for name, given in planted.given.items()
        if (label := planted.truth[name] if name in decided else given) is not None}
    missed = {name for name, given in planted.given.items() if planted.truth[name] != given}
    missed -= decided
    assert missed <= {*planted.kinds["wrong"], *planted.kinds["outlier"]} and len(missed) <= 4


@pytest.fixture
def photos(tmp_path):
    """300 digits in folders, and what is planted among them."""
    draw, planted = np.random.default_rng(0), Planted()
    labels = images.DIGITS.target[:images.N].copy()
    order = draw.permutation(images.N)
    wrong, exact, near, conflict = order[:12], order[12:20], order[20:24], order[24:28]
    labels[wrong] = (labels[wrong] + draw.integers(1, 10, 12)) % 10
    seven = [row for row in order[28:] if labels[row] == 7][:2]
    place = {}
    for row in range(images.N):
        given = "sevne" if row in seven else WORDS[labels[row]]
        place[row] = f"{given}/{row:04}.png"
        images.write_digit(tmp_path / "photos" / place[row], row)
        planted.add(place[row], given, WORDS[images.DIGITS.target[row]],
                    "wrong" if row in wrong else "misspelt" if row in seven else None)
    for n in range(6):
        noise = draw.integers(0, 256, (images.SIDE, images.SIDE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"photos/{WORDS[n]}/noise{n}.png")
        planted.add(f"{WORDS[n]}/noise{n}.png", WORDS[n], kind="outlier")
    for row in (*exact, *near, *conflict):
        label = WORDS[(labels[row] + (3 if row in conflict else 0)) % 10]
        name, file = f"{label}/{row:04}b.png", tmp_path / "photos" / place[row]
        kind = "conflict" if row in conflict else "near" if row in near else "exact"
        if row in near:  # one pixel is a little brighter
            pixels = np.array(Image.open(file))
            pixels[3, 3] = min(255, int(pixels[3, 3]) + 4)
            Image.fromarray(pixels).save(tmp_path / "photos" / name)
        else:
            shutil.copy(file, tmp_path / "photos" / name)
        planted.copy(name, place[row], kind, label)
    return tmp_path / "photos", planted


def left_of(table):
    """Labels by name of a cleaned table of images."""
    cleaned = pandas.read_csv(table)
    return {path.split("photos/")[-1]: label
            for path, label in zip(cleaned["path"], cleaned["label"])}


def test_images(script, tmp_path, network, photos, decide):
    folder, planted = photos
    shown = script("detect.py", "--image_dir", folder, "-n", network, "--cache_dir", tmp_path,
                   "--output", tmp_path / "report", "--workers", 1, "--device", "cpu").stdout
    assert "class names: 'sevne' (2 rows) is probably 'seven'" in shown
    table = pandas.read_csv(tmp_path / "report/suspects.csv")
    name_of = {row: path.removeprefix(f"{folder}/")
               for row, path in zip(table["index"], table["filepath"])}
    found_in(tmp_path / "report", planted, name_of)

    done = script("clean.py", "--automatic", tmp_path / "report/suspects.csv", "--min_score", 0.5,
                  "--image_dir", folder, "--to", tmp_path / "cleaned").stdout
    assert "outliers and extra copies are dropped" in done
    left = left_of(tmp_path / "cleaned/labels.csv")
    missed = [name for name in left if "noise" in name]
    assert len(left) >= 290 and len(missed) <= 2
    right = {name: WORDS[images.DIGITS.target[int(name.split("/")[1][:4])]] for name in left
             if name not in missed}
    assert sum(left[name] == word for name, word in right.items()) >= 0.98 * len(left)
    assert not any(name in left and copy in left for name, copy in planted.pairs)

    decided = decide(tmp_path / "report", planted, name_of)
    script("clean.py", "--decisions", tmp_path / "decisions.csv", "--image_dir", folder, "--to",
           tmp_path / "decided")
    is_clean(left_of(tmp_path / "decided/labels.csv"), planted, decided)


@pytest.fixture
def reviews(tmp_path):
    """256 texts, most of eight sentences, their model, and what is planted among them."""
    draw, planted = random.Random(0), Planted()
    moods = {"negative": BLAME, "positive": PRAISE}
    texts, names = [], list(moods)
    for row in range(240):
        truth = names[row % 2]
        texts.append(" ".join(f"the {draw.choice(THINGS)} of the {draw.choice(THINGS)} is "
                              f"{draw.choice(moods[truth])} ." for _ in range(8)))
        kind = "wrong" if row < 12 else "misspelt" if row in (13, 15) else None
        given = {"wrong": names[1 - row % 2], "misspelt": "positve", None: truth}[kind]
        planted.add(row, given, truth, kind)
    for row in range(240, 244):
        texts.append(" ".join(str(draw.random()) for _ in range(5)))
        planted.add(row, names[row % 2], kind="outlier")
    for row in range(20, 32):
        kind = "conflict" if row >= 28 else "near" if row >= 26 else "exact"
        # White space is no difference; a full stop is one.
        texts.append(texts[row][:-2] if kind == "near" else texts[row].replace(" ", "  "))
        planted.copy(len(texts) - 1, row, kind,
                     names[1 - row % 2] if kind == "conflict" else None)
    table = {"key": list(planted.given), "text": texts, "label": planted.given.values()}
    pandas.DataFrame(table).to_csv(tmp_path / "reviews.csv", index=False)
    made = demo.tiny_roberta(Texts("", (texts[:240],), torch.arange(240) % 2, tuple(names)))
    made.model.roberta.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "reviews.csv", planted


@pytest.mark.slow
def test_texts(script, tmp_path, reviews, decide):
    path, planted = reviews
    words = ("language/detect.py", "--csv", path, "-n", tmp_path / "model", "--cache_dir", tmp_path,
             "--device", "cpu", "--output")
    shown = script(*words, tmp_path / "report").stdout
    assert "class names: 'positve' (2 rows) is probably 'positive'" in shown
    found_in(tmp_path / "report", planted, range(999))
    decided = decide(tmp_path / "report", planted, range(999))
    script("clean.py", "--decisions", tmp_path / "decisions.csv", "--csv", path, "--to",
           tmp_path / "decided")
    cleaned = pandas.read_csv(tmp_path / "decided/reviews.csv")
    is_clean(dict(zip(cleaned["key"], cleaned["label"])), planted, decided)

    shown = script(*words, tmp_path / "again", "--decisions", tmp_path / "decisions.csv").stdout
    again = pandas.read_csv(tmp_path / "again/suspects.csv")
    assert not decided & {*again["index"]} and len(again) == len(planted.given) - len(decided)
    assert again["is_outlier"].mean() < 0.02 and (again["duplicate_group"] < 0).all()
    assert again["is_label_issue"].sum() <= 3 and "reviewed labels were wrong" in shown


@pytest.fixture
def sounds(tmp_path, ast):
    """166 clips of 0.4 s, their network, and what is planted among them."""
    draw, planted, waves = np.random.default_rng(0), Planted(), []
    time, names = np.arange(int(0.4 * clips.RATE)) / clips.RATE, ("hum", "hiss", "whistle")
    for row in range(150):
        tone = np.sin(2 * np.pi * (200, 0, 3000)[row % 3] * draw.uniform(0.9, 1.1) * time) / 3
        waves.append(tone + draw.standard_normal(len(time)) * (0.01, 0.2, 0.01)[row % 3])
        kind = "wrong" if row < 8 else "misspelt" if row in (11, 14) else None
        given = {"wrong": names[(row + 1) % 3], "misspelt": "whistel", None: names[row % 3]}[kind]
        planted.add(f"{row}.wav", given, names[row % 3], kind)
    waves += [draw.standard_normal(len(time)) * np.where(time < 0.2, 0.3, 1e-4),  # cut off
              sum(np.sin(2 * np.pi * 440 * k * time) for k in range(1, 16)) / 20,
              np.sin(2 * np.pi * 6500 * time) * (np.sin(2 * np.pi * 12 * time) > 0) * 0.9,
              (np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 7000 * time)) * 0.4]
    for row in range(150, 154):
        planted.add(f"{row}.wav", names[row % 3], kind="outlier")
    for row in range(20, 32):
        kind = "conflict" if row >= 28 else "near" if row >= 26 else "exact"
        waves.append(waves[row] * (0.99 if kind == "near" else 1))
        planted.copy(f"{len(waves) - 1}.wav", f"{row}.wav", kind,
                     names[(row + 1) % 3] if kind == "conflict" else None)
    for name, wave in zip(planted.given, waves):
        soundfile.write(tmp_path / name, wave, clips.RATE)
    pandas.DataFrame({"path": list(planted.given), "label": planted.given.values()}).to_csv(
        tmp_path / "sounds.csv", index=False)
    ast.model.save_pretrained(tmp_path / "model")
    ast.front_end.save_pretrained(tmp_path / "model")
    return tmp_path / "sounds.csv", planted


@pytest.mark.slow
def test_sounds(script, tmp_path, sounds, decide):
    path, planted = sounds
    shown = script("speech/detect.py", "--csv", path, "-n", tmp_path / "model", "--cache_dir",
                   tmp_path, "--device", "cpu", "--output", tmp_path / "report").stdout
    assert "class names: 'whistel' (2 rows) is probably 'whistle'" in shown
    name_of = list(planted.given)
    found_in(tmp_path / "report", planted, name_of)
    decided = decide(tmp_path / "report", planted, name_of)
    script("clean.py", "--decisions", tmp_path / "decisions.csv", "--csv", path, "--to",
           tmp_path / "decided")
    cleaned = pandas.read_csv(tmp_path / "decided/sounds.csv")
    left = {path.split("/")[-1]: label for path, label in zip(cleaned["path"], cleaned["label"])}
    is_clean(left, planted, decided)
