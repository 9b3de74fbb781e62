"""Folders as they come: links in circles, endings of all kinds, splits, what systems leave."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from experiment.command.errors import InputError
from experiment.files import pictures
from imagenet import folders

CLASSES = ("cat", "dog")
no_heif = pytest.mark.skipif(".heic" in pictures.ENDINGS, reason="pillow-heif is installed")


def write(path, kind=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *os.fsencode(path)]).integers(0, 256, (8, 8, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, kind)


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images each."""
    for name in CLASSES:
        for row in range(3):
            write(tmp_path / f"photos/{name}/{row}.png")
    return tmp_path / "photos"


SIX = [f"{name}/{row}.png" for name in CLASSES for row in range(3)]


def listed(folder):
    files, rows = folders.list_folder(folder)
    assert [path.relative_to(folder).as_posix() for path in files] == list(rows.names)
    assert list(rows.labels) == [name.split("/")[0] for name in rows.names]
    return list(rows.names), "; ".join(rows.notes)


@pytest.mark.parametrize("link, target", [
    ("cat/up", ".."), ("cat/self", "."), ("cat/far", "../.."), ("cat/other", "../dog"),
    ("kitty", "cat"), ("all", "."), ("above", ".."), ("cat/a/deep", "../..")])
def test_links_to_folders_multiply_no_rows(photos, link, target):
    (photos / link).parent.mkdir(exist_ok=True)
    os.symlink(target, photos / link, target_is_directory=True)
    names, notes = listed(photos)
    assert names == SIX
    assert f"1 skipped, as links to what is there already: {link}" in notes
    assert "without any image" not in notes
    assert len(folders.list_any(photos).files) == 6


def test_links_in_circles_and_the_folder_itself_a_link(photos):
    for name, other in zip(CLASSES, CLASSES[::-1]):
        os.symlink(f"../{other}", photos / name / "other")
        os.symlink("loop.png", photos / name / "loop.png")
    os.symlink(photos, photos.parent / "same")
    names, notes = listed(photos.parent / "same")
    assert names == sorted([*SIX, "cat/loop.png", "dog/loop.png"])  # named as unreadable later
    assert "2 skipped, as links" in notes


def test_a_class_elsewhere_is_taken_once(photos):
    """Classes are often links to a larger collection."""
    elsewhere = photos.parent / "collection"
    write(elsewhere / "bird/0.png")
    write(elsewhere / "bird/young/0.png")
    os.symlink(elsewhere / "bird", photos / "bird")
    os.symlink(elsewhere / "bird", photos / "fowl")
    os.symlink(elsewhere / "bird/young", photos / "dog/young")
    names, notes = listed(photos)
    assert names == ["bird/0.png", "bird/young/0.png", *SIX]
    assert "2 skipped, as links to what is there already: dog/young, fowl" in notes


def test_links_to_files(photos):
    """Of one class a second time they are skipped; another class is another label."""
    os.symlink("0.png", photos / "cat/again.png")
    os.symlink("../cat/0.png", photos / "dog/cat.png")
    write(photos.parent / "elsewhere.png")
    for name in "ab":
        os.symlink("../../elsewhere.png", photos / f"dog/{name}.png")
    names, notes = listed(photos)
    assert names == sorted([*SIX, "dog/a.png", "dog/cat.png"])
    assert "2 skipped, as links to what is there already: cat/again.png, dog/b.png" \
        in notes


@no_heif
def test_classes_of_every_ending_are_there(photos):
    for ending in "jfif jpe JPG gif jp2 avif webp TIFF tga bmp ppm".split():
        write(photos / f"{ending}/a.{ending}")
    write(photos / "none/a", "JPEG")
    write(photos / "odd/a.image", "PNG")
    for name in ("a.heic", "b.HEIC", "notes.txt", "clip.mp4", "raw", "a.jpg~"):
        (photos / "phone").mkdir(exist_ok=True)
        (photos / "phone" / name).write_bytes(b"\0\0\0\x18ftypheic")
    names, notes = listed(photos)
    assert len(names) == 6 + 13 and {"none/a", "odd/a.image", "JPG/a.JPG"} < set(names)
    assert ("1 without any image: phone (2 .heic, 1 .jpg~, 1 .mp4, 1 .txt, 1 without ending); "
            "6 skipped, not taken for images: 2 .heic (phone/a.heic, …; needs the package "
            "pillow-heif); 1 .jpg~ (phone/a.jpg~); 1 .mp4 (phone/clip.mp4); 1 .txt "
            "(phone/notes.txt); 1 without ending (phone/raw)") in notes


def test_what_systems_leave_is_no_class(photos):
    write(photos / "__MACOSX/cat/._0.png")
    write(photos / ".ipynb_checkpoints/0-checkpoint.png")
    write(photos / "cat/.ipynb_checkpoints/0-checkpoint.png")
    write(photos / "cat/.hidden.png")
    (photos / "cat/._0.png").write_bytes(b"properties")
    (photos / ".DS_Store").write_bytes(b"")
    names, notes = listed(photos)
    assert names == SIX
    assert notes == ("4 skipped, being hidden: .ipynb_checkpoints, __MACOSX, "
                     "cat/.hidden.png, cat/.ipynb_checkpoints")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(photos):
    (photos / "dog").chmod(0)
    try:
        assert "1 skipped for want of permission to read: dog" in listed(photos)[1]
    finally:
        (photos / "dog").chmod(0o700)


def test_a_pipe_is_no_image(photos):
    """Opening it would wait for ever."""
    os.mkfifo(photos / "cat/pipe.png")
    names, notes = listed(photos)
    assert names == SIX and "1 skipped, not taken for images: 1 .png (cat/pipe.png)" \
        in notes


@pytest.mark.parametrize("names, best", [
    (["train", "test"], "train"), (["val", "train", "test"], "train"),
    (["Train", "Valid"], "Train"), (["test_images", "train_images"], "train_images"),
    (["val2017", "train2017"], "train2017"), (["fold_1", "fold_2"], "fold_1"),
    (["training set", "test set"], "training set"), (["train"], "train")])
def test_splits_are_no_classes(photos, names, best):
    for name in names:
        shutil.copytree(photos, photos.parent / "data" / name)
    shutil.copytree(photos / "cat", photos.parent / "data/.cache/cat")
    (photos.parent / "data/labels").mkdir()
    with pytest.raises(InputError, match=f"of a data set, not classes; give one of them, such as "
                                         f".*data/{best}$") as raised:
        folders.list_folder(photos.parent / "data")
    assert all(repr(name) in str(raised.value) for name in names)
    assert len(folders.list_folder(photos.parent / "data" / best).files) == 6


def test_splits_beside_masks_and_splits_without_classes(photos, tmp_path):
    for name in ("train", "test", "ground_truth"):
        shutil.copytree(photos, tmp_path / "parts" / name)
    with pytest.raises(InputError, match="'test', 'train' are splits .* such as .*parts/train"):
        folders.list_folder(tmp_path / "parts")
    for name in ("train", "test"):
        shutil.copytree(photos / "cat", tmp_path / "flat" / name)
    with pytest.raises(InputError, match="not classes; expected a folder for each class, or a tab"):
        folders.list_folder(tmp_path / "flat")


@pytest.mark.parametrize("names", [["train", "bus"], ["test", "control"], ["trains", "tests"]])
def test_classes_that_are_called_like_splits(photos, names):
    for name in names:
        shutil.copytree(photos / "cat", photos.parent / "data" / name)
    found, notes = listed(photos.parent / "data")
    assert len(found) == 6 and not notes


def test_folders_of_the_same_names_in_every_class_are_told(photos):
    for name in ("real", "sketch"):
        shutil.copytree(photos, photos.parent / "domains" / name)
    assert ("each class (real, sketch) holds folders cat, dog, which are not told apart"
            in listed(photos.parent / "domains")[1])


@no_heif
def test_nothing_but_other_files(photos):
    for path in photos.glob("*/*"):
        path.write_bytes(b"")
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(InputError, match=r"found 2 folders and no image in them; 6 skipped, not "
                                         r"taken for images: 6 .heic \(cat/0.heic, …; "
                                         r"needs the package pillow-heif\)"):
        folders.list_folder(photos)
    with pytest.raises(InputError, match="expected images, found none; 6 skipped"):
        folders.list_any(photos)
