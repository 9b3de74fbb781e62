import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from experiment.command.errors import InputError
from experiment.inputs.feature_file import read

ROWS = {"features": torch.rand(6, 3), "logits": torch.rand(6, 2),
        "labels": torch.tensor([0, 1] * 3), "is_noisy": torch.tensor([True] + [False] * 5)}
TEXTS = {"ids": [f"{row}.jpg" for row in range(6)], "class_names": ["cat", "dog"]}


def write(path, entries):
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(value) for name, value in entries.items()})
    elif path.suffix == ".pt":
        torch.save(entries, path)
    else:
        texts = {name: json.dumps(value) for name, value in entries.items() if name in TEXTS}
        save_file({name: value for name, value in entries.items() if name not in TEXTS}, path,
                  texts)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_each_format(tmp_path, suffix):
    samples = read(write(tmp_path / f"train{suffix}", ROWS | TEXTS), labelled=True)
    torch.testing.assert_close(samples.features, ROWS["features"])
    torch.testing.assert_close(samples.probs, torch.softmax(ROWS["logits"], 1))
    assert samples.labels.tolist() == [0, 1] * 3 and samples.is_noisy.sum() == 1
    assert samples.ids == TEXTS["ids"] and samples.class_names == TEXTS["class_names"]


def test_published_spellings(tmp_path):
    entries = {"feat_cls": ROWS["features"], "prob": torch.full((6, 2), 0.5),
               "targets": ROWS["labels"].to(torch.uint8), "noise": [0, 1, 0, 0, 0, 0]}
    samples = read(write(tmp_path / "train.pt", entries), labelled=True)
    assert samples.labels.dtype == torch.int64 and samples.is_noisy.tolist()[1] is True


PROBS = torch.full((6, 2), 0.5)


@pytest.mark.parametrize("change, message", [
    (dict(features=None), "missing features; found"),
    (dict(labels=None), "missing labels"),
    (dict(logits=None), r"missing probs \(or logits\)"),
    (dict(feat=ROWS["features"]), "holds features twice, the second time as 'feat'"),
    (dict(features=torch.rand(6)), "features: expected floats with 2 dimensions"),
    (dict(features=torch.rand(5, 3)), r"probs: expected shape \(5, 2\) beside features"),
    (dict(features=torch.rand(0, 3)), "expected at least one row"),
    (dict(features=torch.tensor([[1.0, float("nan"), 0]] * 6)), "features: .* NaN or inf.* row 0"),
    (dict(probs=torch.tensor([[0.5, 0.5]] * 5 + [[float("inf"), 0]])), "probs: .* in row 5"),
    (dict(probs=PROBS * 1.1), "probabilities that sum to 1, got a sum of 1.1"),
    (dict(probs=torch.tensor([[1.5, -0.5]] * 6)), "smallest entry of -0.5 in row 0"),
    (dict(labels=torch.tensor([0, 1, 2, 0, 0, 0])), "labels: expected 0 to 1, got 2 in row 2"),
    (dict(labels=torch.rand(6)), "labels: expected integers, got torch.float32"),
    (dict(is_noisy=torch.rand(6)), "is_noisy: expected True or False"),
    (dict(ids=["a"]), "ids: expected 6 entries, got 1"),
    (dict(class_names="ab"), "class_names: expected a list of text, got str"),
])
def test_wrong_content_is_named(tmp_path, change, message):
    entries = {name: value for name, value in (ROWS | change).items() if value is not None}
    with pytest.raises(InputError, match=message) as error:
        read(write(tmp_path / "train.pt", entries), labelled=True)
    assert "train.pt" in str(error.value) and "\n" not in str(error.value)


def test_not_a_feature_file(tmp_path):
    for name, content, message in [
            ("a.npz", b"PK\x03\x04 cut", "not a readable .npz"),
            ("a.pt", b"hello", "not a readable tensor file"),
            ("a.safetensors", b"\xff" * 20, "not a readable .safetensors"),
            ("a.csv", b"1,2", "expected a feature file ending in .npz, .pt, .safetensors")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read(tmp_path / name, labelled=True)
    with pytest.raises(InputError, match=r"b\.npz: no such file"):
        read(tmp_path / "b.npz", labelled=True)
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(InputError, match="expected a dict of tensors, got list"):
        read(tmp_path / "list.pt", labelled=True)


def test_objects_in_npz_are_refused_without_running(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.array([object()]))
    with pytest.raises(InputError, match="numpy string array, not as objects"):
        read(tmp_path / "a.npz", labelled=True)


def test_text_of_letters_that_unicode_lacks(tmp_path):
    """numpy reads it, and Python raises SystemError when it makes the text."""
    letters = np.array(list("abcd")).view(np.uint32)
    letters[1] = 0x7fffffff
    np.savez(tmp_path / "a.npz", features=np.ones((4, 2), np.float32), labels=np.arange(4) % 2,
             probs=np.full((4, 2), 0.5, np.float32), ids=letters.view("<U1"))
    with pytest.raises(InputError, match="not a readable .npz file .holds a text with a letter"):
        read(tmp_path / "a.npz", labelled=True)
