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
            ("a.csv", b"a,b\n1,2", "missing features and labels and probs .or log.*found none"),
            ("a.parquet", b"PAR1", "not a readable .parquet table"),
            ("a.xml", b"1,2", "expected a feature file ending in .npz, .pt, .safetensors")]:
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


N, CLASSES = 60, ("cat", "dog", "ox")
LABELS = np.arange(N) % 3
PLAIN = {"features": np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32),
         "logits": (4 * np.eye(3, dtype=np.float32)[LABELS]), "labels": LABELS}


def loaded(tmp_path, **changed):
    entries = {name: value for name, value in (PLAIN | changed).items() if value is not None}
    np.savez(tmp_path / "train.npz", **entries)
    return read(tmp_path / "train.npz", labelled=True)


NAMES = np.array(CLASSES)


@pytest.mark.parametrize("changed", [
    {"labels": LABELS.astype(np.float64)}, {"labels": LABELS[:, None]},
    {"labels": np.eye(3)[LABELS]}, {"labels": np.eye(3, dtype=bool)[LABELS]},
    {"labels": LABELS.astype(">i4")}, {"labels": LABELS.astype(np.uint16)},
    {"labels": NAMES[LABELS], "class_names": NAMES}, {"labels": NAMES[LABELS]},
    {"labels": NAMES[LABELS][:, None]},
    {"features": PLAIN["features"][:, :, None, None]},
    {"features": PLAIN["features"][:, None, None]},
    {"features": PLAIN["features"].astype(">f4")}, {"features": PLAIN["features"].astype(">f8")},
    {"features": None, "embeddings": PLAIN["features"]}, {"features": None, "X": PLAIN["features"]},
    {"labels": None, "y": LABELS}, {"X": np.zeros(3), "y": np.zeros(2)},
    {"logits": None, "pred_probs": np.eye(3)[LABELS]},
    {"logits": None, "probs": np.eye(3, dtype=np.int64)[LABELS]}])
def test_the_same_data_in_other_forms(tmp_path, changed):
    samples = loaded(tmp_path, **changed)
    assert samples.labels.tolist() == LABELS.tolist()
    np.testing.assert_allclose(samples.features.numpy(), PLAIN["features"], rtol=1e-6)
    assert samples.probs.argmax(1).tolist() == LABELS.tolist()


def test_text_labels_by_class_names_or_by_what_the_network_answers(tmp_path):
    """Column 0 is the ox if class_names says so; without it the columns are in text order."""
    other = np.array(["ox", "cat", "dog"])
    samples = loaded(tmp_path, labels=other[LABELS], class_names=other)
    assert samples.labels.tolist() == LABELS.tolist() and samples.class_name(0) == "ox"
    samples = loaded(tmp_path, labels=NAMES[LABELS])
    assert list(samples.class_names) == list(CLASSES) and "in text order" in samples.notes[0]
    with pytest.raises(InputError, match="labels are text, and which column is which cannot be "
                                         "told .*; add class_names"):
        loaded(tmp_path, labels=other[LABELS])
    with pytest.raises(InputError, match="labels: 'ox' in row 2 is not among class_names .cat, d"):
        loaded(tmp_path, labels=NAMES[LABELS], class_names=np.array(["cat", "dog", "cow"]))
    numbers = np.array(["1", "2", "10"])  # in numeric order
    assert loaded(tmp_path, labels=numbers[LABELS]).labels.tolist() == LABELS.tolist()


def test_masked_classes_have_probability_0(tmp_path):
    logits = PLAIN["logits"].copy()
    logits[0] = (1, -np.inf, 1)
    samples = loaded(tmp_path, logits=logits)
    assert samples.probs[0].tolist() == [0.5, 0, 0.5] and samples.logits.isfinite().all()
    logits[7] = -np.inf
    with pytest.raises(InputError, match="logits: expected a finite one in each row, got -inf alone"
                                         " in row 7"):
        loaded(tmp_path, logits=logits)
    logits[7] = np.inf
    with pytest.raises(InputError, match="logits: expected finite numbers"):
        loaded(tmp_path, logits=logits)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_one_column_of_two_classes_is_that_of_class_1(tmp_path, shape):
    labels = np.arange(N) % 2
    p = np.where(labels == 1, 0.9, 0.2).astype(np.float32)
    samples = loaded(tmp_path, logits=None, probs=p.reshape(shape), labels=labels)
    np.testing.assert_allclose(samples.probs.numpy(), np.stack([1 - p, p], 1))
    z = np.log(p / (1 - p))
    samples = loaded(tmp_path, logits=z.reshape(shape), labels=labels,
                     weight=np.ones((1, 4), np.float32), bias=np.ones(1, np.float32))
    np.testing.assert_allclose(samples.probs.numpy(), np.stack([1 - p, p], 1), atol=1e-6)
    assert samples.weight.tolist() == [[0] * 4, [1] * 4] and samples.bias.tolist() == [0, 1]
    single = loaded(tmp_path, logits=None, probs=np.ones((N, 1), np.float32), labels=0 * labels)
    assert single.probs.shape == (N, 1)


@pytest.mark.parametrize("changed, message", [
    ({"logits": None, "probs": np.log(np.full((N, 3), 1 / 3))}, "look like log-probabilities"),
    ({"logits": None, "probs": np.full((N, 3), 100 / 3)}, "look like percentages; divide them"),
    ({"labels": LABELS + 0.5}, "labels: expected integers, got torch.float64"),
    ({"labels": np.where(LABELS == 1, np.nan, LABELS)}, "labels: expected integers"),
    ({"labels": np.ones((N, 3))}, r"labels: expected one for each row, got an array of \(60, 3\)"),
    ({"features": np.zeros((N, 4, 5, 1))}, "features: expected floats with 2 dimensions"),
    ({"features": None, "X": np.ones((N, 4)), "embedding": np.ones((N, 4))}, "features twice")])
def test_what_stays_unclear_is_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, **changed)
