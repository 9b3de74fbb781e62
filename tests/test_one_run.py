"""A folder of images with everything wrong that there can be: found in one run, and cleaned."""

import shutil

import numpy as np
import pandas
import pytest
from PIL import Image

from tests.imagenet import test_own_images as images

network = images.network
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def planted(tmp_path):
    """The folder, and the names of its files by what is wrong with them."""
    draw = np.random.default_rng(0)
    labels = images.DIGITS.target[:images.N].copy()
    order = draw.permutation(images.N)
    wrong, exact, near, conflict = order[:12], order[12:20], order[20:24], order[24:28]
    labels[wrong] = (labels[wrong] + draw.integers(1, 10, 12)) % 10
    seven = [row for row in order[28:] if labels[row] == 7][:2]
    place = {row: f"{'sevne' if row in seven else WORDS[labels[row]]}/{row:04}.png"
             for row in range(images.N)}
    folder = tmp_path / "photos"
    for row, name in place.items():
        images.write_digit(folder / name, row)
    names = {"wrong": [place[row] for row in wrong], "misspelt": [place[row] for row in seven],
             "outlier": [f"{WORDS[n]}/noise{n}.png" for n in range(6)], "copied": [],
             "conflict": []}
    for name in names["outlier"]:
        noise = draw.integers(0, 256, (images.SIDE, images.SIDE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / name)
    for row in (*exact, *near, *conflict):
        label = (labels[row] + (3 if row in conflict else 0)) % 10
        name = f"{WORDS[label]}/{row:04}b.png"
        if row in near:  # one pixel is a little brighter
            pixels = np.array(Image.open(folder / place[row]))
            pixels[3, 3] = min(255, int(pixels[3, 3]) + 4)
            Image.fromarray(pixels).save(folder / name)
        else:
            shutil.copy(folder / place[row], folder / name)
        names["conflict" if row in conflict else "copied"].append((place[row], name))
    return folder, names


def test_found_shown_and_cleaned(script, tmp_path, network, planted):
    folder, names = planted
    shown = script("detect.py", "--image_dir", folder, "-n", network, "--cache_dir", tmp_path,
                   "--output", tmp_path / "report", "--workers", 1, "--device", "cpu").stdout
    assert "class names: 'sevne' (2 rows) is probably 'seven'" in shown
    table = pandas.read_csv(tmp_path / "report/suspects.csv", keep_default_na=False)
    table.index = [str(path).removeprefix(f"{folder}/") for path in table["filepath"]]
    reasons, action = table["reasons"], table["suggested_action"]
    for first, copy in names["copied"] + names["conflict"]:
        assert table["duplicate_group"][first] == table["duplicate_group"][copy] >= 0
        assert sorted(action[[first, copy]]).count("drop") >= 1
    assert table["is_conflict"].sum() == 2 * len(names["conflict"])
    assert (table["duplicate_group"] >= 0).sum() == 2 * 16
    assert table["is_outlier"][names["outlier"]].all()
    assert table["is_outlier"].sum() <= 6 + 0.02 * len(table)  # false alarms
    assert table["is_label_issue"][names["wrong"]].mean() > 0.9
    assert set(table["suggested_name"][names["misspelt"]]) == {"seven"}
    assert all("misspelt" in reasons[name] for name in names["misspelt"])

    done = script("clean.py", "--automatic", tmp_path / "report/suspects.csv", "--min_score", 0.5,
                  "--image_dir", folder, "--to", tmp_path / "cleaned").stdout
    assert "outliers and extra copies are dropped" in done
    cleaned = pandas.read_csv(tmp_path / "cleaned/labels.csv")
    left = {path.split("photos/")[-1]: label for path, label in
            zip(cleaned["path"], cleaned["label"])}
    truth = {name: WORDS[images.DIGITS.target[int(name.split("/")[1][:4])]]
             for name in left if "noise" not in name}
    assert len(truth) == len(left) >= 290  # no noise
    assert sum(left[name] == word for name, word in truth.items()) >= 0.99 * len(truth)
    assert "sevne" not in left.values() and not any(
        first in left and copy in left for first, copy in names["copied"] + names["conflict"])
