"""Relation maps in report.html: which epochs, which points, and how large they may get."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.inputs import media
from experiment.inputs.samples import Samples
from experiment.report.page import maps
from experiment.report.page.gallery import Gallery
from experiment.run.relation_maps import Maps, maps_of
from experiment.run.result import Result


@pytest.fixture(scope="module")
def trained(trained_digits, tmp_path_factory):
    """A cache folder with the epochs 10, 20 and 21 of one training."""
    return shutil.copytree(trained_digits, tmp_path_factory.mktemp("trained") / "cache")


@pytest.fixture
def result(clusters):
    """Label errors of the clusters, with maps of five suspects over two epochs of ten points."""
    features, probs, labels, is_noisy = clusters
    samples = Samples("made up", features, probs, labels, is_noisy=is_noisy)
    found = Result(samples, torch.linspace(1, 0, 120), {}, "is_noisy", [], "", {})
    epochs = [replace(samples, features=features + turn, index=None) for turn in (0.3, 0.0)]
    return replace(found, maps=Maps(["1", "2"], maps_of(epochs, range(5), kernel="cos_p",
                                                        points=10), samples))


def page_data(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page,
                                re.DOTALL)[1]), len(page)


def test_detect_maps_the_epochs_that_were_saved(script, trained, tmp_path):
    words = ("detect.py", "-n", "digits_noise0.2_20", "--cache_dir", trained, "--verbose", "False",
             "--auto", "False")
    script(*words, "--output", tmp_path)
    data, size = page_data(tmp_path)
    found = data["maps"]
    assert found["epochs"] == ["10", "20"] and len(found["of"]) == 20 and size < 3_000_000
    assert [one["index"] for one in found["of"]] == data["rows"]["index"][:20]
    first = found["of"][0]
    assert first["left_out"] == 1797 - 1 - 300
    for name in ("others", "mean", "variance", "last", "label", "positive", "media"):
        assert len(first[name]) == 300
    assert first["index"] not in first["others"] and first["name"] is None
    assert all("image" in data["media"][place] for place in first["media"])
    script(*words, "--output", tmp_path, "--hop", 3, "--epochs", 10)
    data, _ = page_data(tmp_path)
    assert data["maps"]["epochs"] == ["10", "20"]
    assert all(one["index"] % 3 == 0 for one in data["maps"]["of"])
    assert any(row % 3 for row in data["maps"]["of"][0]["others"])  # related to every row


def test_an_unfit_epoch_costs_the_maps_and_nothing_else(script, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "results")
    (tmp_path / "results/digits_noise0.2/checkpoint-10.pth").unlink()
    shown = script("detect.py", "-n", "digits_noise0.2_20", "--cache_dir", tmp_path / "results",
                   "--output", tmp_path / "out", "--auto", "False").stdout
    assert "note: no relation maps: " in shown and "checkpoint-10.pth: no such file" in shown
    assert page_data(tmp_path / "out")[0]["maps"] is None


def test_a_single_epoch_has_no_maps(script, tmp_path, feature_file):
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "out").stdout
    assert "relation maps" not in shown and page_data(tmp_path / "out")[0]["maps"] is None


def test_points_tell_what_they_are(result):
    told = maps.maps(result, Gallery())
    one = told["of"][0]
    assert told["epochs"] == ["1", "2"] and len(told["of"]) == 5 and one["index"] == 0
    assert one["label"] == result.samples.labels[one["others"]].tolist()
    assert one["positive"] == result.samples.is_noisy[one["others"]].int().tolist()
    assert one["media"] == [None] * 10 and one["name"] is None
    named = replace(result, samples=replace(result.samples, ids=[f"{n}" * 99 for n in range(120)]))
    assert maps.maps(named, Gallery())["of"][0]["name"][0] == (str(one["others"][0]) * 99)[:60]


def shown_as(result, show):
    """The maps and the gallery, where samples look as `show` says and a first one was shown."""
    result = replace(result, samples=replace(result.samples, media=show))
    gallery = Gallery()
    gallery.add(result.samples, 0)
    return maps.maps(result, gallery), gallery


def test_media_of_the_strongest_points_come_first_and_stay_within_their_share(result, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    told, gallery = shown_as(result, lambda row: media.image(Image.fromarray(noise + row)))
    whole = gallery.size
    assert all(place is not None for one in told["of"] for place in one["media"])
    monkeypatch.setattr(maps, "MEDIA_SIZE", whole // 4)
    told, gallery = shown_as(result, lambda row: media.image(Image.fromarray(noise + row)))
    assert whole // 4 < gallery.size < whole // 2
    for one in told["of"]:
        known = [place is not None for place in one["media"]]
        assert known[0] and not known[-1]


def test_sounds_are_left_out_and_what_cannot_be_shown_is_no_error(result):
    told, _ = shown_as(result, lambda row: media.sound(np.ones(160), 16_000))
    assert all(place is None for one in told["of"] for place in one["media"])
    told, gallery = shown_as(result, lambda row: media.text("a text" * (row == 0)))
    places = [place for one in told["of"] for place in one["media"]]
    assert None not in places and all("problem" in gallery.entries[place] for place in places
                                      if place)
