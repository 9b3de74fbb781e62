import importlib
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from experiment.command.errors import InputError
from experiment.inputs.extraction import Extraction
from imagenet import data
from tests.imagenet_files import write_image, write_ood, write_tree


def test_train_and_val_in_image_folder_order(tmp_path):
    write_tree(tmp_path, "val", per_class=3)
    (tmp_path / "val/n00000001/notes.txt").write_text("not an image")
    images = data.read("val", Extraction(imagenet_dir=tmp_path))
    folder = ImageFolder(str(tmp_path / "val"))
    assert [str(images.root / name) for name in images.ids()] == [p for p, _ in folder.samples]
    assert images.labels.tolist() == folder.targets and images.folders == 4
    assert images.sets == {"val": 12} and len(images) == 12


def test_ood_sets_in_the_published_order(tmp_path):
    write_ood(tmp_path, sizes=(3, 1, 2, 4))
    write_image(tmp_path / "dtd/images/banded/a.jpg", seed=0)
    images = data.read("ood", Extraction(ood_dir=tmp_path))
    assert list(images.sets.items()) == [("places", 3), ("sun", 1), ("inat", 2), ("dtd", 5)]
    assert images.ids()[0] == "Places/images/P0.jpg"
    assert images.ids()[6] == "dtd/images/banded/a.jpg"
    assert images.labels is None


def test_relative_folders(tmp_path, monkeypatch):
    write_ood(tmp_path)
    monkeypatch.chdir(tmp_path)
    images = data.read("ood", Extraction(ood_dir=data.Path(".")))
    assert images.ids()[0] == "Places/images/P0.jpg" and (images.root / images.ids()[0]).is_file()


@pytest.mark.parametrize("split, variable, option", [
    ("train", "IMGNET_DIR", "--imagenet_dir"), ("ood", "OOD_DIR", "--ood_dir")])
def test_missing_folder_says_which_where_and_how(tmp_path, split, variable, option):
    extraction = Extraction(imagenet_dir=tmp_path / "in", ood_dir=tmp_path / "ood")
    assert not data.is_there(split, extraction)
    where = "in/train" if split == "train" else "ood/Places"
    what = "train" if split == "train" else "places"
    with pytest.raises(InputError, match=f"{what}: no folder .*{where}; set {option}, or "
                                         f"{variable} in the environment or in imagenet/data.py"):
        data.read(split, extraction)


@pytest.mark.parametrize("folder", ["", "n0"])
def test_folder_without_images(tmp_path, folder):
    (tmp_path / "val" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="val: expected folders of images"):
        data.read("val", Extraction(imagenet_dir=tmp_path))


def test_environment_sets_the_folders(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("IMGNET_DIR", str(tmp_path / "a"))
        patched.setenv("OOD_DIR", "")
        importlib.reload(data)
        assert tmp_path / "a" == data.IMGNET_DIR and data.OOD_DIR.parts[-2:] == ("data", "ood")
    importlib.reload(data)


def test_list_gives_names_and_labels_as_the_folder_does(tmp_path):
    write_tree(tmp_path, "val", per_class=3)
    images = data.read("val", Extraction(imagenet_dir=tmp_path))
    (tmp_path / "val.txt").write_text("".join(f"ILSVRC/val/{name} 7\n" for name in images.ids()))
    listed = data.read_list(tmp_path / "val.txt")
    assert listed.ids() == images.ids() and listed.folders == 4
    np.testing.assert_array_equal(listed.labels, images.labels)
    assert listed.labels.dtype == np.int64


@pytest.mark.parametrize("text, message", [
    ("a/1.JPEG\n2.JPEG\n", "expected <folder>/<file> on each line, got '2.JPEG'"),
    ("a/1.JPEG\nb/1.JPEG\na/2.JPEG\n", "expected the order of the features .* got a/2.JPEG after"),
    ("a/1.JPEG\na/1.JPEG\n", "expected the order"),
    ("", "val.txt: expected <folder>/<file> on each line, got none"),
])
def test_wrong_lists(tmp_path, text, message):
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        data.read_list(tmp_path / "val.txt")


def test_missing_list(tmp_path):
    with pytest.raises(InputError, match="val.txt: not a readable text file"):
        data.read_list(tmp_path / "val.txt")


def test_unreadable_images_are_reported_not_raised(tmp_path):
    write_tree(tmp_path, "val", per_class=2, classes=2)
    images = data.read("val", Extraction(imagenet_dir=tmp_path))
    paths = [images.root / name for name in images.ids()]
    paths[0].write_bytes(b"not an image")
    paths[1].write_bytes(paths[1].read_bytes()[:400])  # cut
    os.unlink(paths[2])
    rows = data.Images(images, transform=lambda image: torch.full((1, 2, 2), image.width))
    tensors, good, problems = data.collate([rows[i] for i in range(4)])
    assert tensors.shape == (1, 1, 2, 2) and good == [3] and list(problems) == [0, 1, 2]
    for path, problem in zip(paths, problems.values()):
        assert problem.startswith(f"{path}: not a readable image (") and "\n" not in problem
    tensors, good, problems = data.collate([rows[0]])
    assert len(tensors) == 0 and good == [] and len(problems) == 1


def test_an_image_of_too_many_pixels_is_reported(tmp_path, monkeypatch):
    write_tree(tmp_path, "val", per_class=1, classes=1)
    rows = data.Images(data.read("val", Extraction(imagenet_dir=tmp_path)), transform=None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "JPEG: not a readable image (Image size (1920 pixels) exceeds limit" in rows[0][1]


@pytest.mark.parametrize("error", [struct.error, EOFError, zlib.error])
def test_what_else_decoding_raises_is_reported(tmp_path, error):
    def transform(image):
        raise error("cut")
    write_tree(tmp_path, "val", per_class=1, classes=1)
    rows = data.Images(data.read("val", Extraction(imagenet_dir=tmp_path)), transform)
    assert rows[0][1].endswith("JPEG: not a readable image (cut)")
