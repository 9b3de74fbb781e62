import json
import shutil

import numpy as np
import pytest
import torch

from experiment.command.errors import InputError
from experiment.inputs.extraction import Extraction
from experiment.inputs.media import image_file
from imagenet import features
from imagenet.samples import load_ood, load_train, load_val
from tests.imagenet_files import (
    planted,
    random_model,
    val_names,
    write_checkpoint,
    write_ood,
    write_tree,
)

CLASSES, DIM = 4, 16


@pytest.fixture
def quiet(tmp_path):
    """An Extraction that finds no images but those a test writes under tmp_path."""
    def make(**options):
        return Extraction(**{"imagenet_dir": tmp_path / "imagenet", "ood_dir": tmp_path / "ood",
                             "device": "cpu", "workers": 1, "progress": False} | options)
    return make


@pytest.fixture
def mae(tmp_path):
    """mae_large_49 in the published layout with any features; returns folder, weight, bias."""
    def make(**features):
        _, weight, bias, _ = planted(CLASSES, DIM, CLASSES)
        write_checkpoint(tmp_path / "mae_large/checkpoint-49.pth",
                         {"head.weight": weight, "head.bias": bias})
        (tmp_path / "mae_large/features").mkdir()
        for split, rows in features.items():
            torch.save(rows, tmp_path / f"mae_large/features/feat_{split}_49.pt")
        return tmp_path / "mae_large", weight, bias
    return make


def rows(n):
    return planted(n, DIM, CLASSES)[0]


def write_targets(folder, n_full, picked):
    labels = torch.arange(len(picked)) % CLASSES
    torch.save({"idx_clean": picked, "targets": labels, "idx_chg": torch.tensor([1, 3])},
               folder / "target.pt")
    return labels


@pytest.mark.parametrize("stored", ["full", "picked"])
def test_train_of_a_noisy_experiment(mae, quiet, stored):
    full, picked = rows(40), torch.arange(0, 40, 3)
    folder, weight, bias = mae(train=full if stored == "full" else full[picked])
    labels = write_targets(folder, 40, picked)
    samples = load_train(folder, 49, quiet())
    assert torch.equal(samples.features, full[picked]) and torch.equal(samples.labels, labels)
    torch.testing.assert_close(samples.probs, torch.softmax(full[picked] @ weight.T + bias, 1))
    assert samples.is_noisy.nonzero()[:, 0].tolist() == [1, 3]
    assert samples.ids == [str(row) for row in picked.tolist()]
    assert torch.equal(samples.weight, weight) and torch.equal(samples.bias, bias)


def test_names_of_picked_rows(mae, quiet, tmp_path):
    names = write_tree(tmp_path / "imagenet", "train", per_class=3, classes=CLASSES)
    folder, *_ = mae(train=rows(12))
    write_targets(folder, 12, torch.tensor([0, 4, 5, 11]))
    samples = load_train(folder, 49, quiet())
    assert samples.ids == [
        f"n{label:08}/{names[label][i]}" for label, i in ((0, 0), (1, 1), (1, 2), (3, 2))]
    assert samples.media(2) == image_file(tmp_path / "imagenet/train" / samples.ids[2])


def test_features_stay_memory_mapped(mae, quiet, tmp_path):
    folder, *_ = mae(train=rows(12))
    np.save(tmp_path / "labels.npy", np.arange(12) % CLASSES)
    samples = load_train(folder, 49, quiet(train_labels=tmp_path / "labels.npy"))
    assert not samples.features.untyped_storage().resizable()  # as only mapped storage is
    assert samples.labels.tolist() == [0, 1, 2, 3] * 3 and samples.is_noisy is None


def test_train_labels_from_the_folders(mae, quiet, tmp_path):
    write_tree(tmp_path / "imagenet", "train", per_class=3, classes=CLASSES)
    samples = load_train(mae(train=rows(12))[0], 49, quiet())
    assert samples.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert samples.ids[3] == "n00000001/n00000001_0.JPEG"


def test_half_precision_features(mae, quiet, tmp_path):
    folder, weight, bias = mae(val=rows(200).half())
    samples = load_val(folder, 49, quiet())
    assert samples.features.dtype == torch.float16 and samples.probs.dtype == torch.float32
    torch.testing.assert_close(samples.probs,
                               torch.softmax(rows(200).half().float() @ weight.T + bias, 1))


def test_resnet_from_cached_features_and_a_head(tmp_path, quiet):
    features, weight, bias, labels = planted(20, 24, CLASSES)
    (tmp_path / "resnet50/features").mkdir(parents=True)
    torch.save(features, tmp_path / "resnet50/features/feat_train.pt")
    torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "resnet50.pth")
    (tmp_path / "labels.txt").write_text("\n".join(map(str, labels.tolist())))
    samples = load_train(tmp_path / "resnet50", None, quiet(
        checkpoint=tmp_path / "resnet50.pth", train_labels=tmp_path / "labels.txt"))
    assert torch.equal(samples.labels, labels)
    assert torch.equal(samples.probs.argmax(1), labels)


def test_val_labels_follow_from_the_order_when_nothing_names_the_rows(mae, quiet):
    samples = load_val(mae(val=rows(50 * CLASSES))[0], 49, quiet())
    assert torch.equal(samples.labels, torch.arange(50 * CLASSES) // 50)
    assert samples.is_noisy is None and samples.ids is None
    assert samples.notes == ("no ReaL labels without the images' names: give --val_list FILE or "
                             "--imagenet_dir DIR",)


@pytest.mark.parametrize("listed", [True, False])
def test_val_with_names(mae, quiet, tmp_path, listed):
    folder, *_ = mae(val=rows(12))
    files = write_tree(tmp_path / ("elsewhere" if listed else "imagenet"), "val", 3, CLASSES)
    names = [f"n{label:08}/{file}" for label in files for file in files[label]]
    (tmp_path / "val.txt").write_text("\n".join(names))
    samples = load_val(folder, 49, quiet(val_list=tmp_path / "val.txt" if listed else None))
    kinds = {name: kind for label in range(CLASSES)
             for name, kind in zip(val_names(label), ["clean", "diff", "none"])}
    expected = [kinds[name.split("/")[1]] for name in names]
    assert samples.ids == names and samples.extra == {"real": expected}
    assert samples.is_noisy.tolist() == [kind != "clean" for kind in expected]
    assert samples.notes == ("ReaL labels: 4 clean, 4 diff, 4 none, 0 ambiguous",)
    assert samples.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert samples.held_out and (samples.media is None) == listed
    if not listed:
        seventh = image_file(tmp_path / "imagenet/val" / names[6])
        assert samples.media(6) == samples.every(2).media(6) == seventh


def test_listed_images_are_shown_where_they_are_there(mae, quiet, tmp_path):
    files = write_tree(tmp_path / "imagenet", "val", 3, CLASSES)
    names = [f"n{label:08}/{file}" for label in files for file in files[label]]
    (tmp_path / "val.txt").write_text("\n".join(names))
    samples = load_val(mae(val=rows(12))[0], 49, quiet(val_list=tmp_path / "val.txt"))
    assert samples.media(7) == image_file(tmp_path / "imagenet/val" / names[7])
    (tmp_path / "imagenet/val" / names[7]).unlink()
    with pytest.raises(InputError, match="no such file"):
        samples.media(7)


def test_ood(mae, quiet):
    val, ood = rows(8), rows(6)
    folder, weight, bias = mae(train=rows(20), val=val, ood=ood)
    train, test = load_ood(folder, 49, quiet(ood_groups=(("places", 2), ("dtd", 4))))
    assert torch.equal(train.features, rows(20)) and train.labels is None
    assert train.notes == ("training labels unknown: no target.pt, no train/ in --imagenet_dir, "
                           "no --train_labels FILE",)
    assert torch.equal(test.features, torch.cat([val, ood]))
    torch.testing.assert_close(test.logits, test.features @ weight.T + bias)
    torch.testing.assert_close(test.probs, torch.softmax(test.logits, 1))
    assert test.is_ood.tolist() == [False] * 8 + [True] * 6
    assert test.group == ["id"] * 8 + ["places"] * 2 + ["dtd"] * 4
    assert torch.equal(test.weight, weight) and torch.equal(train.bias, bias)


@pytest.mark.parametrize("n, groups", [
    (35_640, {"places": 10_000, "sun": 10_000, "inat": 10_000, "dtd": 5_640}), (7, {"ood": 7})])
def test_groups_of_published_features(mae, quiet, n, groups):
    _, test = load_ood(mae(train=rows(20), val=rows(8), ood=torch.randn(n, DIM))[0], 49, quiet())
    assert {name: test.group.count(name) for name in groups} == groups


def test_ood_training_labels(mae, quiet, tmp_path):
    folder, *_ = mae(train=rows(20), val=rows(8), ood=rows(6))
    torch.save(torch.arange(20) % CLASSES, tmp_path / "labels.pt")
    train, _ = load_ood(folder, 49, quiet(train_labels=tmp_path / "labels.pt"))
    assert train.labels.tolist() == [0, 1, 2, 3] * 5 and train.notes == ()
    write_tree(tmp_path / "imagenet", "train", per_class=2, classes=CLASSES)  # of other rows
    train, _ = load_ood(folder, 49, quiet())
    assert train.labels is None and "8 images, but the features have 20 rows" in train.notes[0]


def test_everything_from_images(tmp_path, quiet, capsys):
    write_tree(tmp_path / "imagenet", "train", per_class=4, classes=CLASSES)
    write_tree(tmp_path / "imagenet", "val", per_class=3, classes=CLASSES)
    write_ood(tmp_path / "ood", sizes=(3, 2, 2, 3))
    model = random_model("test_vit", CLASSES)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    folder, extraction = tmp_path / "test_vit", quiet(checkpoint=tmp_path / "weights.pth")
    train, test = load_ood(folder, None, extraction)
    assert sorted(path.name for path in (folder / "features").glob("*.pt")) == [
        "feat_ood.pt", "feat_train.pt", "feat_val.pt"]
    assert train.features.shape == (16, 64) and train.labels.tolist() == [
        label for label in range(CLASSES) for _ in range(4)]
    assert test.group == ["id"] * 12 + ["places"] * 3 + ["sun"] * 2 + ["inat"] * 2 + ["dtd"] * 3
    assert test.ids[12] == "Places/images/P0.jpg" and test.ids[0].startswith("n00000000/ILSVRC")
    assert capsys.readouterr().out.count("top-1") == 2  # of train and val
    _, again = load_ood(folder, None, extraction)
    assert again.group == test.group and torch.equal(again.features, test.features)
    assert test.media(14) == image_file(tmp_path / "ood" / test.ids[14])  # after 12 of val
    assert train.media(5) == image_file(tmp_path / "imagenet/train" / train.ids[5])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("loader, features, options, message", [
    (load_train, {"train": rows(12)}, {}, "feat_train_49.pt: training labels unknown: no target"),
    (load_train, {"train": torch.randn(12, 17)}, {},
     "feat_train_49.pt: features of width 17 do not fit the final layer of .*checkpoint-49.pth, "
     "which takes 16"),
    (load_train, {"train": {"feat": rows(12)}}, {}, r"expected one tensor of floats \(N, 16\)"),
    (load_train, {"train": torch.ones(12, 16, dtype=torch.int64)}, {}, "expected one tensor of"),
    (load_train, {"train": rows(12) / 0}, {"train_labels": 12}, "features: expected finite"),
    (load_train, {"train": rows(12)}, {"train_labels": 11},
     "labels.npy: 11 labels, but .*feat_train_49.pt has 12 rows"),
    (load_val, {"val": rows(12)}, {}, "12 rows are not 50 of each of 4 classes: their labels need "
     "--val_list FILE or --imagenet_dir DIR"),
    (load_val, {"val": rows(12)}, {"val_list": 3}, "val.txt: 3 images, but the features have 12"),
    (load_val, {"val": rows(12)}, {"val_list": 12}, "val.txt: 1 folders of images, but the network "
     "has 4 classes"),
    (load_val, {}, {}, "feat_val_49.pt: no such file .download.py downloads the published ones., "
     "and no images to compute it from: val: no folder .*/imagenet/val; set --imagenet_dir, or "
     "IMGNET_DIR in the"),
    (load_ood, {"val": rows(9), "ood": rows(6)}, {"ood_groups": (("a", 4), ("b", 1))},
     "--ood_groups: 5 rows in all, but .*feat_ood_49.pt has 6"),
    (load_ood, {"val": rows(9)}, {}, "feat_ood_49.pt: no such file .* places: no folder .*/Places;"
     " set --ood_dir, or OOD_DIR in the environment"),
])
def test_wrong_input(mae, quiet, tmp_path, loader, features, options, message):
    np.save(tmp_path / "labels.npy", np.zeros(options.get("train_labels", 0), dtype=int))
    (tmp_path / "val.txt").write_text(
        "".join(f"n0/{i:03}.JPEG\n" for i in range(options.get("val_list", 0))))
    files = {"train_labels": tmp_path / "labels.npy", "val_list": tmp_path / "val.txt"}
    options = {name: files.get(name, value) for name, value in options.items()}
    folder, *_ = mae(**features)
    with pytest.raises(InputError, match=message):
        loader(folder, 49, quiet(**options))


@pytest.mark.parametrize("n", [9, 13, 11])
def test_features_of_another_length_than_the_targets(mae, quiet, n):
    folder, *_ = mae(train=rows(n))
    write_targets(folder, 40, torch.arange(0, 40, 4))
    with pytest.raises(InputError, match=rf"feat_train_49.pt: {n} rows; expected the 10 of .*"
                                         r"target.pt, or the full training set"):
        load_train(folder, 49, quiet())


def test_train_labels_beside_targets(mae, quiet, tmp_path):
    folder, *_ = mae(train=rows(40))
    write_targets(folder, 40, torch.arange(0, 40, 4))
    with pytest.raises(InputError, match="--train_labels: the experiment has labels of its own"):
        load_train(folder, 49, quiet(train_labels=tmp_path / "labels.npy"))


@pytest.fixture
def extracted(tmp_path, quiet, capsys):
    """Features of val/ from images: returns the file, and how to load them with a checkpoint."""
    write_tree(tmp_path / "imagenet", "val", per_class=3, classes=CLASSES)
    for seed in range(2):
        torch.save(random_model("test_resnet", CLASSES, seed=seed).state_dict(),
                   tmp_path / f"weights{seed}.pth")
    folder = tmp_path / "test_resnet"

    def load(seed, **options):
        return load_val(folder, None, quiet(checkpoint=tmp_path / f"weights{seed}.pth", **options))
    load(0)
    capsys.readouterr()
    return folder / "features/feat_val.pt", load


def test_features_of_other_weights_are_extracted_anew(extracted, tmp_path, capsys):
    path, load = extracted
    before = load(0).features.clone()
    assert capsys.readouterr().out == ""  # taken from the file
    after = load(1).features
    assert f"feat_val.pt: extracted with other weights than {tmp_path / 'weights1.pth'}; " \
        "starting over" in capsys.readouterr().out
    assert not torch.allclose(before, after)
    assert torch.equal(load(0).features, before)
    assert sorted(file.name for file in path.parent.iterdir()) == ["feat_val.json", "feat_val.pt"]


def test_features_of_other_weights_are_refused_without_images(extracted, tmp_path, monkeypatch):
    path, load = extracted
    names = "".join(f"{name}\n" for name in load(0).ids)
    (tmp_path / "val.txt").write_text(names)
    shutil.rmtree(tmp_path / "imagenet")
    assert len(load(0, val_list=tmp_path / "val.txt")) == 12
    with pytest.raises(InputError, match=f"{path}: extracted with other weights than "
                                         ".*weights1.pth, and no images to compute it from: val: "
                                         "no folder"):
        load(1, val_list=tmp_path / "val.txt")
    assert path.is_file()
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"done": 5}))  # of an unfinished run
    assert len(load(1, val_list=tmp_path / "val.txt")) == 12
    path.with_suffix(".json").unlink()  # as published
    assert len(load(1, val_list=tmp_path / "val.txt")) == 12


def test_features_of_other_images_are_extracted_anew(extracted, tmp_path, capsys):
    _, load = extracted
    write_tree(tmp_path / "more", "val", per_class=4, classes=CLASSES)
    assert len(load(0, imagenet_dir=tmp_path / "more")) == 16
    assert f"extracted from other images than those in {tmp_path / 'more/val'}; starting over" \
        in capsys.readouterr().out


@pytest.mark.promise("files")
@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"done": 12}', "\xff"])
def test_features_whose_record_is_damaged_are_extracted_anew(extracted, capsys, text):
    path, load = extracted
    before = load(0).features.clone()
    path.with_suffix(".json").write_text(text)
    assert torch.equal(load(0).features, before)
    assert "its record feat_val.json is damaged; starting over" in capsys.readouterr().out


def test_rows_that_a_kill_left_are_removed(extracted):
    path, load = extracted
    path.with_suffix(".rows").write_bytes(b"left")
    load(0)
    assert not path.with_suffix(".rows").exists()


@pytest.fixture
def flat(tmp_path):
    """Image folders of the wrong shape: no folders of classes in them."""
    for folder in ("imagenet/train", "imagenet/val", "ood/Places", "ood/SUN", "ood/iNaturalist",
                   "ood/dtd/images"):
        (tmp_path / folder).mkdir(parents=True)


def test_cached_features_beside_folders_of_the_wrong_shape(mae, quiet, tmp_path, flat):
    folder, *_ = mae(train=rows(20), val=rows(50 * CLASSES), ood=rows(6))
    train, test = load_ood(folder, 49, quiet())
    assert train.labels is None and train.ids is None and test.ids is None
    assert "training labels unknown: " in train.notes[0] and len(train.notes) == 1
    assert [f"names of the images unknown: {tmp_path / part}: expected folders of images" in note
            for part, note in zip(("imagenet/val", "ood/Places"), test.notes)] == [True, True]
    assert "imagenet/val: expected folders of images" in load_val(folder, 49, quiet()).notes[0]
    with pytest.raises(InputError, match="training labels unknown: .*train: expected folders of"):
        load_train(folder, 49, quiet())
    np.save(tmp_path / "labels.npy", np.arange(20) % CLASSES)
    train = load_train(folder, 49, quiet(train_labels=tmp_path / "labels.npy"))
    assert len(train.labels) == 20 and "names of the training images unknown" in train.notes[0]
    write_targets(folder, 20, torch.arange(0, 20, 2))
    train = load_train(folder, 49, quiet())
    assert train.ids[1] == "2" and "names of the training images unknown" in train.notes[0]


def test_extraction_from_folders_of_the_wrong_shape(mae, quiet, flat):
    with pytest.raises(InputError, match="no images to compute it from: .*expected folders of"):
        load_val(mae()[0], 49, quiet())


def test_wrong_labels_are_refused_before_any_extraction(mae, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "extract", None)
    write_tree(tmp_path / "imagenet", "val", per_class=1, classes=CLASSES)
    (tmp_path / "labels.txt").write_text("one\n")
    folder, *_ = mae()
    for loader in (load_train, load_ood):
        with pytest.raises(InputError, match="labels.txt: not a readable file of integers"):
            loader(folder, 49, quiet(train_labels=tmp_path / "labels.txt"))
