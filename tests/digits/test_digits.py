import io

import numpy as np
import pytest
import torch
from PIL import Image

from digits.build import build
from digits.data import INLIER_CLASSES, change_labels, parse, parts
from digits.samples import load_ood, load_train, load_val
from experiment.command.errors import InputError
from experiment.files import reading


def test_changed_labels_are_wrong_and_listed():
    labels = torch.arange(1000) % 10
    given, changed = change_labels(labels, 10, 0.2, pair=False, seed=3)
    assert torch.equal((given != labels).nonzero()[:, 0], changed) and len(changed) == 200
    assert len(((given - labels)[changed] % 10).unique()) == 9  # every other class occurs
    given, changed = change_labels(labels, 10, 0.2, pair=True, seed=3)
    assert torch.equal(given[changed], (labels[changed] + 1) % 10)
    assert not torch.equal(changed, change_labels(labels, 10, 0.2, pair=True, seed=4)[1])


@pytest.mark.parametrize("folder, expected", [
    ("digits", (0, False, 0)), ("digits_seed2", (0, False, 2)),
    ("digits_noise0.08", (0.08, False, 0)), ("digits_noise0.4_pair_seed7", (0.4, True, 7))])
def test_names(folder, expected):
    variant = parse(folder)
    assert (variant.noise, variant.pair, variant.seed) == expected


@pytest.mark.parametrize("folder", ["digits_noise", "digits_noise1.5", "digits_noise0.0",
                                    "digits_pair", "digits_seed", "mnist"])
def test_unknown_names_list_the_known(folder):
    with pytest.raises(InputError, match=r"expected digits\[_seed<S>\]_<epoch> or digits_noise"):
        parse(folder)


def test_files_are_the_published_layout_and_the_same_each_time(tmp_path):
    folders = [tmp_path / name / "digits_noise0.08" for name in "ab"]
    for folder in folders:
        build(folder, 2, progress=False)
    files = sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*.p*"))
    assert [str(path) for path in files] == ["checkpoint-2.pth", "features/feat_train_2.pt",
                                             "target.pt"]
    targets, features = (reading.load(folders[0] / name) for name in files[:0:-1])
    assert set(targets) == {"idx_clean", "targets", "idx_chg"}
    assert len(targets["targets"]) == len(features) == 1797 and len(targets["idx_chg"]) == 144
    assert set(reading.load(folders[0] / files[0])) == {"model", "optimizer", "epoch", "scaler",
                                                      "args"}
    assert torch.equal(features, reading.load(folders[1] / files[1]))


def test_features_and_head_give_the_networks_probabilities(tmp_path):
    build(tmp_path / "digits_noise0.2_pair_seed1", 1, progress=False)
    samples = load_train(tmp_path / "digits_noise0.2_pair_seed1", 1)
    true = parts(parse("digits"))  # clean labels of the digits 0-7
    assert samples.is_noisy.sum() == round(0.2 * 1797)
    assert samples.probs.shape == (1797, 10) and samples.class_names[9] == "9"
    torch.testing.assert_close(samples.logits, samples.features @ samples.weight.T + samples.bias)
    assert len(true["train"].labels) + len(true["val"].labels) + len(true["ood"].labels) == 1797


def test_validation_and_outliers(tmp_path):
    folder = tmp_path / "digits"
    build(folder, 3, progress=False)
    train, test = load_ood(folder, 3)
    val = load_val(folder, 3)
    assert not train.is_noisy.any() and train.labels.max() == INLIER_CLASSES - 1
    assert val.is_noisy.sum() == round(0.08 * len(val))
    assert test.is_ood.sum() == len(test) - len(val) == 354  # the digits 8 and 9
    assert set(test.group) == {"id", "digits 8, 9"}
    held_out, outliers = parts(parse("digits"))["val"].images, parts(parse("digits"))["ood"].images
    for samples, row, image in ((val, 7, held_out[7]), (test, 7, held_out[7]),
                                (test, len(val) + 3, outliers[3])):
        pixels = np.asarray(Image.open(io.BytesIO(samples.media(row).content)))
        assert np.abs(255 - pixels - 255 * image[0].numpy()).max() <= 1
    assert test.held_out and val.held_out and not train.held_out


def test_missing_files_name_the_command(tmp_path):
    with pytest.raises(InputError, match="download.py -n digits_noise0.08_60"):
        load_train(tmp_path / "digits_noise0.08", 60)
