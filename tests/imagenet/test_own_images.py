"""detect.py and detect_ood.py on folders and tables of images, as anyone has them."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_sample_images
from torch.nn.functional import cross_entropy, interpolate
from transformers import (
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    TimmWrapperModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from experiment.inputs.extraction import Extraction
from imagenet import heads, hub, models, own
from imagenet.transform import transform_of
from tests.imagenet_files import random_model, write_image

DIGITS = load_digits()
N = 300
SIDE = 32


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a small network that has seen other digits than the tests'; its ten classes
    have names that say nothing of them."""
    images = interpolate(torch.from_numpy(DIGITS.images[N:]).float()[:, None] / 16, SIDE)
    images, labels = images.repeat(1, 3, 1, 1) * 2 - 1, torch.from_numpy(DIGITS.target[N:]).long()
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    folder = tmp_path_factory.mktemp("models") / "digits_resnet"
    timm.models.save_for_hf(model, folder, model_config={
        "pretrained_cfg": {**model.pretrained_cfg, "input_size": (3, SIDE, SIDE), "crop_pct": 1.0}})
    return folder


def write_digit(path, row):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = Image.fromarray((DIGITS.images[row] * 15.9).astype(np.uint8))
    pixels.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def photographs(tmp_path):
    """N digits in folders by their labels, 12 of them wrong; names of these 12."""
    draw = np.random.default_rng(0)
    wrong = draw.permutation(N)[:12]
    labels = DIGITS.target[:N].copy()
    labels[wrong] = (labels[wrong] + draw.integers(1, 10, 12)) % 10
    for row in range(N):
        write_digit(tmp_path / f"photos/{labels[row]}/{row:04}.png", row)
    return tmp_path / "photos", {f"{labels[row]}/{row:04}.png" for row in wrong}


def report(folder):
    with open(folder / "suspects.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def detect(script, tmp_path, *words, **kwargs):
    return script(*words, "--cache_dir", tmp_path / "results", "--workers", 1, "--verbose",
                  "False", **kwargs).stdout


def test_folder_with_what_folders_hold(script, tmp_path, network, photographs):
    """The planted errors rank first, and what cannot be used is named."""
    folder, wrong = photographs
    china, flower = load_sample_images().images
    (folder / "3/broken.png").write_bytes(b"no image")
    (folder / "3/labels.txt").touch()
    (folder / ".hidden").mkdir()
    (folder / "lonely").mkdir()
    Image.fromarray(china).save(folder / "lonely/china.jpg")
    Image.fromarray(flower).save(folder / "flower.jpg")
    (folder / "empty").mkdir()
    os.symlink("nowhere.png", folder / "3/link.png")
    shown = detect(script, tmp_path, "detect.py", "--image_dir", folder, "-n", network)
    rows, metrics = report(tmp_path / "results/photos/report")
    names = [row["id"] for row in rows]
    assert wrong | {"lonely/china.jpg"} == set(names[:13])
    assert len(rows) == N + 1 and names == [row["filepath"].removeprefix(f"{folder}/")
                                            for row in rows]
    issues = sum(row["is_label_issue"] == "True" for row in rows)
    assert issues == metrics["estimated_wrong"] and 9 <= issues <= 17
    for line in ("logistic regression on frozen features, 5-fold cross-validated (the network's "
                 "head has 10 classes, the data have 11)", "1 without any image: empty",
                 "1 skipped, not taken for images: 1 .txt (3/labels.txt)",
                 "1 skipped, being hidden: .hidden",
                 "1 left out: not in the folder of a class: flower.jpg",
                 "3/broken.png: not a readable image (cannot identify image file)",
                 "3/link.png: not a readable image", "1 of 11 classes have a single row, which "
                 "nothing of its class can support, so that it ranks as suspect: lonely (row ",
                 "cross-validation reproduces ", "no row's own label had a say"):
        assert line in shown, line
    page = (tmp_path / "results/photos/report/report.html").read_text(encoding="utf-8")
    assert "Out-of-sample probabilities: logistic regression on frozen features" in page
    assert page.count("data:image/png") > 150 and "data:image/jpeg" in page
    listed = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.[pj]*"))
    for row in rows[:30]:
        assert listed[int(row["index"])] == row["id"]
    assert metrics["probabilities"].endswith("5-fold cross-validated")
    assert [(listed[row["index"]], row["name"]) for row in metrics["left_out"]] == \
        [("3/broken.png",) * 2, ("3/link.png",) * 2]


def test_table_and_features_kept_while_they_fit(script, tmp_path, network, photographs,
                                                monkeypatch):
    folder, wrong = photographs
    lines = [f"{path},{path.parent.name}" for path in sorted(folder.glob("*/*.png"))]
    table = folder / "list.csv"
    table.write_text("\n".join(["path,label", *lines, "gone.png,3", f"{lines[0][:-2]},"]))
    words = "detect.py", "--image_csv", table, "-n", network
    shown = detect(script, tmp_path, *words)
    rows, _ = report(tmp_path / "results/list/report")
    assert {row["id"].removeprefix(f"{folder}/") for row in rows[:12]} == wrong
    assert "row 300, gone.png: no such file; row 301, " in shown and "no label" in shown
    # The head of ten classes is not asked by name, but by what it reproduces.
    assert "the network's own head (it reproduces 9" in shown

    with monkeypatch.context() as patched:
        patched.setattr(own.features, "extract", None)
        detect(script, tmp_path, *words)
    write_digit(folder / rows[0]["id"], 5)
    assert "300 images" in detect(script, tmp_path, *words)  # extracted anew
    again, _ = report(tmp_path / "results/list/report")
    assert again != rows


def test_row_numbers_and_pictures_are_of_the_users_rows(network, tmp_path):
    for row in range(6):
        write_digit(tmp_path / f"photos/{row % 2}/{row}.png", row)
    (tmp_path / "photos/0/1_broken.png").write_bytes(b"")
    images = own.list_folder(tmp_path / "photos")
    samples = own.load(images, tmp_path / "results", str(network),
                       own.Extraction(workers=1, progress=False))
    assert samples.index.tolist() == [0, 2, 3, 4, 5, 6]
    for name, row in zip(samples.ids, samples.index.tolist()):
        with Image.open(tmp_path / "photos" / name) as image:
            assert samples.media(row).kind == "image"
            size = image.size
        assert size == (SIDE, SIDE) and images.files[row].name == name.split("/")[1]


def test_sources_by_the_kind_of_the_option(network, tmp_path):
    for row in range(8):
        write_digit(tmp_path / f"photos/{row % 2}/{row}.png", row)
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(
        f"photos/{row % 2}/{row}.png,{row % 2}\n" for row in range(8)))
    how = tmp_path / "results", str(network), Extraction(workers=1, device="cpu", progress=False)
    (samples, folder), (table, of_table) = (
        own.load_source(own.list_source(kind, tmp_path / name), tmp_path / name, *how)
        for kind, name in (("image_dir", "photos"), ("image_csv", "t.csv")))
    assert (folder, of_table) == (tmp_path / "results/photos", tmp_path / "results/t")
    assert len(list(folder.glob("features/feat_digits_resnet-*.pt"))) == 1
    assert len(samples) == len(table) == 8 and samples.features.shape == table.features.shape
    train, test, folder = own.load_source_pair(
        "image_dir", (tmp_path / "photos", tmp_path / "photos/0"), *how)
    assert (len(train), len(test), folder) == (8, 4, tmp_path / "results/0")
    torch.testing.assert_close(test.features, samples.features[:4])


def test_names_that_break_lines_and_encodings(script, tmp_path, network):
    for row in range(6):
        write_digit(tmp_path / f"photos/{row % 2}/{row}.png", row)
    os.rename(tmp_path / "photos/0/0.png", tmp_path / 'photos/0/=a\n"b", c.png')
    os.rename(tmp_path / "photos/0/2.png", os.fsencode(tmp_path / "photos/0") + b"/\xff.png")
    os.rename(tmp_path / "photos/0/4.png", tmp_path / "photos/0/תמונה.png")
    shown = detect(script, tmp_path, "detect.py", "--image_dir", tmp_path / "photos", "-n", network)
    rows, _ = report(tmp_path / "results/photos/report")
    paths = {int(row["index"]): row["filepath"] for row in rows}
    assert paths[0] == str(tmp_path / 'photos/0/=a\n"b", c.png')
    assert paths[1] == str(tmp_path / "photos/0/תמונה.png")
    assert paths[2] == str(tmp_path / "photos/0/\\udcff.png")
    assert '0/=a\\n"b", c.png' in shown and "0/\\udcff.png" in shown


def test_outliers(script, tmp_path, network, photographs):
    test = tmp_path / "test"
    for row in range(1000, 1040):
        write_digit(test / f"digits/{row}.png", row)
    Image.fromarray(load_sample_images().images[1]).save(test / "flower.jpg")
    Image.new("RGB", (40, 40), "red").save(test / "red.png")
    (test / "broken.jpg").write_bytes(b"\xff\xd8")
    words = "--image_dir", photographs[0], "--test_dir", test, "-n", network
    shown = detect(script, tmp_path, "detect_ood.py", *words)
    rows, metrics = report(tmp_path / "results/test/report")
    assert {row["id"] for row in rows[:2]} == {"red.png", "flower.jpg"}
    assert list(rows[0]) == ["index", "suspect_rank", "id", "filepath", "predicted_label",
                             "predicted_name", "outlier_score", "copy_of"]
    assert "broken.jpg: not a readable image" in shown and "probabilities: " in shown
    assert metrics["left_out"]["test"][0]["name"] == "broken.jpg"
    # The training features are where detect.py keeps them, too.
    assert len(list((tmp_path / "results/photos/features").glob("*.pt"))) == 1


def test_outliers_from_a_single_class(script, tmp_path, network):
    zeros = np.flatnonzero(DIGITS.target == 0)
    for row in zeros[:20]:
        write_digit(tmp_path / f"normal/all/{row}.png", row)
    for row in zeros[-10:]:
        write_digit(tmp_path / f"new/{row}.png", row)
    Image.fromarray(load_sample_images().images[0]).save(tmp_path / "new/china.jpg")
    shown = detect(script, tmp_path, "detect_ood.py", "--image_dir", tmp_path / "normal",
                   "--test_dir", tmp_path / "new", "-n", network)
    rows, _ = report(tmp_path / "results/new/report")
    assert rows[0]["id"] == "china.jpg" and "there is a single class" in shown


@pytest.mark.parametrize("kind", ["timm", "file", "headless file", "transformers", "headless"])
def test_any_network(tmp_path, kind):
    """Features are what enters the final layer, with and without one."""
    checkpoint, name = None, tmp_path / "net"
    if kind == "timm":
        model = random_model("test_resnet", 5)
        timm.models.save_for_hf(model, name, model_config={"label_names": list("abcde")})
    elif "file" in kind:
        model = random_model("test_resnet", 0 if kind == "headless file" else 5)
        checkpoint, name = tmp_path / "net.safetensors", "test_resnet"
        save_file(model.state_dict(), checkpoint)
    else:
        config = ViTConfig(image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=1,
                           num_attention_heads=2, intermediate_size=32, id2label=dict(
                               enumerate("abcde")))
        torch.manual_seed(0)
        model = (ViTModel if kind == "headless" else ViTForImageClassification)(config).eval()
        model.save_pretrained(name)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(name)
    network = own.find(str(name), checkpoint)
    built = models.build(network)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(built, images)
        if kind == "headless":
            expected = model(images).last_hidden_state[:, 0]
        elif kind == "transformers":
            expected = model(images, output_hidden_states=True)
            assert torch.equal(logits, expected.logits)
            expected = model.vit.layernorm(expected.hidden_states[-1])[:, 0]
        else:
            expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features, expected)
    assert heads.widths(built) == (features.shape[1], 0 if "headless" in kind else 5)
    assert (heads.head_of(built) is None) == ("headless" in kind)
    if heads.head_of(built) is not None:
        assert own.class_names(network) == (None if kind == "file" else tuple("abcde"))
    transformed = transform_of(network, built)(Image.new("RGB", (50, 40)))
    assert transformed.shape[0] == 3 and transformed.ndim == 3


def test_fingerprint_of_a_folder_sees_every_file(tmp_path, network):
    folder = shutil.copytree(network, tmp_path / "net")
    found = own.find(str(folder), None)
    first = models.fingerprint(found)
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    assert models.fingerprint(found) != first


@pytest.mark.parametrize("content, message", [
    ("no json", "config.json: not readable JSON"),
    ("{}", "not an image network that timm or transformers can load"),
    ('{"architecture": "test_resnet", "pretrained_cfg": {}}', "not an image network"),
    ('{"model_type": "bert"}', "not an image network"),
])
def test_folders_of_something_else(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(hub.InputError, match=message):
        models.build(own.find(str(tmp_path), None))


@pytest.mark.parametrize("words, message", [
    (["--image_dir", "nowhere"], "nowhere: no such folder"),
    (["--image_dir", "photos/0"], "photos/0: expected a folder for each class with images in it"),
    (["--image_dir", "photos", "--path_column", "x"], "--path_column: goes with --image_csv only"),
    (["--image_csv", "nowhere.csv"], "nowhere.csv: no such file"),
    (["--image_csv", "photos"], "photos: not a readable table"),
    (["--image_dir", "photos", "--image_csv", "x.csv"], "--image_dir and --image_csv: two sources"),
    (["--image_dir", "photos", "--features", "x.npz"], "--features and --image_dir: two sources"),
    (["--image_dir", "photos", "--epochs", "3"], "--epochs: --image_dir holds one epoch"),
    (["--image_dir", "photos", "-n", "resnet_50"], "did you mean resnet50"),
    (["--image_dir", "photos", "-n", "photos"], "--name photos: no config.json in this folder"),
    (["--image_dir", "photos", "-n", "weights.pth"], "a file of weights does not say of which"),
    (["--image_dir", "photos", "-n", "someone/net"], "--name someone/net: no such folder"),
    (["--image_dir", "photos", "-n", "test_resnet", "--checkpoint", "weights.pth"],
     "weights.pth: not a readable tensor file"),
    (["--features", "x.npz", "--image_size", "64"], "--image_size: goes with --image_dir"),
    (["--image_dir", "photos", "--std", "1", "0", "1"], "--std: expected a number above 0"),
    (["--image_dir", "photos", "-n", "saved", "--image_size", "64"],
     "--image_size: the folder --name saved says what images its network takes"),
    (["--image_dir", "photos", "-n", "test_resnet", "--checkpoint", "none.pth"],
     "none.pth: no such file"),
    (["--image_dir", "one", "-n", "test_resnet", "--checkpoint", "random.pth"],
     "one: expected at least two classes"),
    (["--image_dir", "broken", "-n", "test_resnet", "--checkpoint", "random.pth"],
     "broken: none of 2 rows can be used: row 0, a/x.png: not a readable image"),
])
def test_wrong_words_get_one_line(refused, tmp_path, words, message):
    write_image(tmp_path / "photos/0/a.jpg", 0)
    write_image(tmp_path / "one/a/a.jpg", 0)
    for name in "ab":
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "x.png").touch()
    (tmp_path / "weights.pth").touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/config.json").write_text("{}")
    torch.save(random_model("test_resnet", 3).state_dict(), tmp_path / "random.pth")
    line = refused("detect.py", *words, "--cache_dir", tmp_path / "results", "--workers", 1,
                   cwd=tmp_path)
    assert message in line
    assert not list(tmp_path.rglob("report"))


@pytest.mark.parametrize("words", [["--image_dir", "x"], ["--test_dir", "x"],
                                   ["--features", "x", "--test_dir", "x"],
                                   ["--image_dir", "x", "--test_features", "x"]])
def test_outliers_need_both_sides_of_a_kind(refused, tmp_path, words):
    assert "or both --image_dir (or --image_csv) and --test_dir" in \
        refused("detect_ood.py", *words, cwd=tmp_path)


def test_default_network_that_cannot_be_downloaded(script, tmp_path, monkeypatch):
    def offline(name, pretrained):
        raise OSError(f"no connection for {name}")
    monkeypatch.setattr(timm, "create_model", offline)
    write_image(tmp_path / "photos/0/a.jpg", 0)
    done = script("detect.py", "--image_dir", tmp_path / "photos", "--cache_dir",
                  tmp_path / "results", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("detect.py: --name resnet50: timm's weights could not be")
    assert "no connection for resnet50" in done.stderr and "--checkpoint FILE" in done.stderr


def test_own_weights_at_another_size(script, tmp_path, photographs):
    """What was assumed of the weights and the images is printed."""
    model, file = timm.create_model("test_vit", num_classes=0, img_size=64), tmp_path / "net.ckpt"
    torch.save({f"model.{key}": value for key, value in model.state_dict().items()}, file)
    words = ["detect.py", "--image_dir", photographs[0], "-n", "test_vit", "--checkpoint", file,
             "--image_size", 64]
    shown = detect(script, tmp_path, *words, "--mean", 0.5, 0.5, 0.5)
    assert (f"network: test_vit with the weights of {file}; weights under 'model.'; images of "
            f"64 x 64, mean 0.5 0.5 0.5, std ") in shown
    again = detect(script, tmp_path, *words)
    assert "extracted with other weights" in again and "without --mean, --std" in again


@pytest.mark.parametrize("head", [True, False])
def test_a_model_of_timm_that_transformers_saved(tmp_path, head):
    config = TimmWrapperConfig(architecture="test_resnet", num_labels=3, id2label=dict(
        enumerate("abc")))
    torch.manual_seed(0)
    model = (TimmWrapperForImageClassification if head else TimmWrapperModel)(config).eval()
    model.save_pretrained(tmp_path / "net")
    network = own.find(str(tmp_path / "net"), None)
    built = models.build(network)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(built, images)
        found = model(images)
    if head:
        torch.testing.assert_close(logits, found.logits)
        assert own.class_names(network) == ("a", "b", "c")
    else:
        torch.testing.assert_close(features, found.pooler_output)
    assert heads.widths(built)[1] == (3 if head else 0)
    assert transform_of(network, built)(Image.new("RGB", (50, 40))).ndim == 3


@pytest.mark.parametrize("kind", ["timm", "transformers", "one mean"])
def test_a_network_of_one_channel_sees_grey(tmp_path, kind):
    name = tmp_path / "net"
    if kind == "timm":
        timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=3, in_chans=1), name)
    else:
        config = ViTConfig(image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=1,
                           num_attention_heads=2, intermediate_size=32, num_channels=1)
        ViTForImageClassification(config).save_pretrained(name)
        ViTImageProcessor(size={"height": 32, "width": 32}, **(
            {"image_mean": [0.5], "image_std": [0.5]} if kind == "one mean" else {})
            ).save_pretrained(name)
    network = own.find(str(name), None)
    built = models.build(network)
    red, grey = (transform_of(network, built)(Image.new("RGB", (200, 200), colour))
                 for colour in ((255, 0, 0), (76, 76, 76)))
    assert red.shape[0] == 1 and red.ndim == 3
    torch.testing.assert_close(red, grey)  # as bright
    mean, std = (0.5, 0.5) if kind != "timm" else (
        np.mean(built.pretrained_cfg[name]) for name in ("mean", "std"))
    torch.testing.assert_close(red, torch.full_like(red, (76 / 255 - mean) / std))
    with torch.inference_mode():
        assert heads.features_and_logits(built, red[None])[0].isfinite().all()


def test_networks_of_other_channels_are_refused(tmp_path):
    timm.models.save_for_hf(timm.create_model("test_resnet", in_chans=4), tmp_path / "net")
    network = own.find(str(tmp_path / "net"), None)
    with pytest.raises(hub.InputError, match="net: takes images of 4 channels; expected 3, or 1"):
        transform_of(network, models.build(network))


def test_a_processor_that_gives_images_of_different_sizes(refused, tmp_path):
    for row in range(4):
        write_image(tmp_path / f"photos/{row % 2}/{row}.jpg", row, size=(48 + row, 40))
    config = ViTConfig(image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=1,
                       num_attention_heads=2, intermediate_size=32)
    ViTForImageClassification(config).save_pretrained(tmp_path / "net")
    ViTImageProcessor(do_resize=False).save_pretrained(tmp_path / "net")
    line = refused("detect.py", "--image_dir", tmp_path / "photos", "-n", tmp_path / "net",
                   "--cache_dir", tmp_path / "results", "--workers", 2)
    assert "processor gives images of different sizes, (3, 40, 48) and (3, 40, 51); have it" in line


def test_16_bit_photographs_are_no_suspects(script, tmp_path, network, photographs):
    """The same suspects as of 8 bits: half of the files are rewritten in 16."""
    folder, wrong = photographs
    for path in sorted(folder.glob("*/*.png"))[::2]:
        with Image.open(path) as image:
            pixels = np.asarray(image).astype(np.uint16) * 257
        Image.fromarray(pixels).save(path)
    detect(script, tmp_path, "detect.py", "--image_dir", folder, "-n", network)
    rows, _ = report(tmp_path / "results/photos/report")
    assert {row["id"] for row in rows[:12]} == wrong
