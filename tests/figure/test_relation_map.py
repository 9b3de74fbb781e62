import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from digits.build import build
from experiment.inputs import media
from experiment.inputs.samples import Samples
from experiment.run.relation_maps import maps_of
from figure import relation_map_picture
from tests.imagenet_files import planted, write_checkpoint, write_tree


@pytest.fixture
def epochs(clusters):
    features, probs, labels, is_noisy = clusters
    return [Samples("made up", features + turn, probs, labels, is_noisy=is_noisy)
            for turn in (0.0, 0.1, 0.2)]


@pytest.fixture
def feature_files(tmp_path, epochs):
    paths = [tmp_path / f"epoch{number}.npz" for number in (1, 2, 3)]
    for path, samples in zip(paths, epochs):
        np.savez(path, features=samples.features, probs=samples.probs, labels=samples.labels)
    return paths


def size_of(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.size


@pytest.fixture(scope="module")
def digits(trained_digits, tmp_path_factory):
    """A cache folder with the epochs 10, 20 and 21 of one training."""
    return shutil.copytree(trained_digits, tmp_path_factory.mktemp("digits") / "cache")


def test_digits_with_the_epochs_saved_up_to_the_name(script, digits, tmp_path, monkeypatch):
    words = ("figure/relation_map.py", "-n", "digits_noise0.2_20", "--cache_dir", digits,
             "--index", 3)
    shown = script(*words)
    path = digits / "digits_noise0.2/report/relation_map_3.png"
    assert str(path) in shown.stdout and size_of(path)[0] > 1000
    told = []
    monkeypatch.setattr(relation_map_picture, "draw", lambda *words: told.append(words))
    script(*words)
    script(*words, "--epochs", 21, 10, "--output", tmp_path / "out", "--kernel", "cos")
    (found, samples, epochs, _), (other, _, chosen, other_path) = told
    assert epochs == ["10", "20"] and chosen == ["10", "21"]
    assert found.index == 3 and len(found.others) == 1796 and samples.class_names[0] == "0"
    assert other.mean.max() > found.mean.max()  # without probabilities relations are larger
    assert other_path == tmp_path / "out/relation_map_3.png"


def test_feature_files_one_for_each_epoch(script, tmp_path, feature_files):
    shown = script("figure/relation_map.py", "--features", *feature_files, "--index", 0,
                   "--cache_dir", tmp_path, process=True)
    assert shown.stderr == ""
    assert size_of(tmp_path / "epoch3/report/relation_map_0.png")[0] > 1000


def test_imagenet_files_with_pictures_of_the_images(script, tmp_path, monkeypatch):
    features, weight, bias, labels = planted(20, 24, 4)
    folder = tmp_path / "mae_large"
    (folder / "features").mkdir(parents=True)
    for epoch in (9, 49):
        write_checkpoint(folder / f"checkpoint-{epoch}.pth",
                         {"head.weight": weight * epoch / 49, "head.bias": bias})
        torch.save(features, folder / f"features/feat_train_{epoch}.pt")
    write_tree(tmp_path / "images", "train", 5)
    told, draw = [], relation_map_picture.draw
    monkeypatch.setattr(relation_map_picture, "draw", lambda *words: told.append(words) or
                        draw(*words))
    script("figure/relation_map.py", "-n", "mae_large_49", "--cache_dir", tmp_path, "--index", 7,
           "--imagenet_dir", tmp_path / "images")
    found, samples, epochs, path = told[0]
    assert epochs == ["9", "49"] and samples.media(7).kind == "image"
    assert sorted(found.others[:4].tolist()) == [5, 6, 8, 9]  # its class, and surer of it by 49
    assert (found.last[:4] > found.mean[:4]).all() and size_of(path)[0] > 1000


@pytest.mark.parametrize("show", [
    lambda row: media.text(f"row {row}: $\\frac{{ is no maths here"),
    lambda row: media.image(Image.new("RGB", (300, 200), (row, 0, 0))),
    lambda row: media.image(Image.new("RGB", (9, 9))) if row else media.text(" "),  # row 0: nothing
    None,
])
@pytest.mark.parametrize("names", [["$\\frac{", "a\nb\x00", "猫" * 50, "\udcff$$"], None])
def test_whatever_there_is_to_show(tmp_path, epochs, show, names):
    last = replace(epochs[-1], media=show, class_names=names,
                   ids=None if names is None else ["$x^{$.png\n"] * 120)
    found, = maps_of([*epochs[:-1], last], [0], kernel="cos_p", points=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relation_map_picture.draw(found, last, ["$1", "2$"], tmp_path / "map.png")
    assert size_of(tmp_path / "map.png")[0] > 1000


def test_relations_that_are_all_zero(tmp_path):
    """No row is related to another: nothing to ring, and a map all the same."""
    samples = Samples("far", torch.eye(4), torch.full((4, 2), 0.5), torch.tensor([0, 1, 0, 1]))
    found, = maps_of([samples, samples], [0], kernel="cos_p", points=9)
    assert not found.mean.any()
    relation_map_picture.draw(found, samples, ["1", "2"], tmp_path / "map.png")
    assert size_of(tmp_path / "map.png")[0] > 1000


def test_a_text_is_one_printable_line_without_maths():
    assert relation_map_picture.plain("a\n\tb\x1b[0m $x$", 99) == r"a b [0m \$x\$"
    assert relation_map_picture.plain("abcdef", 4) == "abc…"


@pytest.mark.parametrize("words, message", [
    ([], "the following arguments are required: --index"),
    (["--index", "-1"], "argument --index: expected a whole number of at least 0, got '-1'"),
    (["--index", "120"], "--index 120: expected 0 to 119"),
    (["--index", "0", "--epochs", "1", "2"], "--epochs: feature files hold one epoch each"),
    (["--index", "0", "--kernel", "rbf"], "argument --kernel: invalid choice: 'rbf'"),
])
def test_wrong_options_get_one_line(refused, tmp_path, feature_files, words, message):
    before = sorted(tmp_path.iterdir())
    line = refused("figure/relation_map.py", "--features", *feature_files, *words, "--cache_dir",
                   tmp_path)
    assert line.startswith("relation_map.py: error: ") and message in line
    assert sorted(tmp_path.iterdir()) == before


def test_too_few_epochs(refused, tmp_path, feature_files):
    words = "figure/relation_map.py", "--cache_dir", tmp_path, "--index", 0
    assert "expected two files or more" in refused(*words, "--features", feature_files[0])
    assert "digits_noise0.2 has none; python download.py -n digits_noise0.2_20 makes more" in \
        refused(*words, "-n", "digits_noise0.2_20")
    build(tmp_path / "digits_noise0.2", 1, progress=False)
    assert "has features of epoch 1 alone" in refused(*words, "-n", "digits_noise0.2_1")
    assert "feat_train_9.pt: no such file" in refused(*words, "-n", "digits_noise0.2_1",
                                                      "--epochs", 1, 9)
    assert "its files carry no epoch" in refused(*words, "-n", "resnet50")
    assert "--checkpoint: one file of weights cannot serve several epochs" in refused(
        *words, "-n", "mae_large_49", "--checkpoint", "a.pth")


def test_epochs_of_other_rows(refused, tmp_path, feature_files):
    with np.load(feature_files[0]) as file:
        np.savez(feature_files[0], **{key: value[:60] for key, value in file.items()})
    line = refused("figure/relation_map.py", "--features", *feature_files, "--index", 0,
                   "--cache_dir", tmp_path, "--output", tmp_path / "out")
    assert "expected the same rows and labels in every epoch" in line
    assert not list((tmp_path / "out").iterdir())
