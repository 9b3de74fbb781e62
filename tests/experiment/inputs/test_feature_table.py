"""Features in tables and in .npy files beside one another."""

import numpy as np
import pandas
import pytest

from experiment.command.errors import InputError
from experiment.inputs.feature_file import read

N, D = 60, 12  # f10 comes after f9, not after f1
LABELS = np.arange(N) % 3
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
PROBS = np.float32(0.8) * np.eye(3, dtype=np.float32)[LABELS] + np.float32(0.2 / 3)
NAMES = np.array(["cat", "dog", "ox"])


def numbered(array, name, start=0):
    return {f"{name}{start + at}": array[:, at] for at in range(array.shape[1])}


def lists(array):
    return [row.tolist() for row in array]


FORMS = [
    numbered(FEATURES, "f") | numbered(PROBS, "prob_") | {"label": LABELS},
    numbered(FEATURES, "") | numbered(PROBS, "p") | {"Label": LABELS, "note": ["x"] * N},
    numbered(FEATURES, "emb_", 1) | numbered(PROBS, "prob", 1) | {"y": LABELS, "f1": [0.5] * N},
    {"embedding": lists(FEATURES), "pred_probs": lists(PROBS), " labels": LABELS},
    {"Features": lists(FEATURES), "label": NAMES[LABELS]} | numbered(np.log(PROBS), "logit_"),
    numbered(FEATURES, "f") | {"label": LABELS * 1.0, "probs": lists(PROBS)}]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("columns", FORMS)
def test_every_form_of_columns(tmp_path, ending, columns):
    path = tmp_path / f"train{ending}"
    table = pandas.DataFrame(columns | {"id": range(N), "is_noisy": LABELS == 1})
    table = table[[*table.columns[::-1]]]  # numbers tell the order
    if ending == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if ending == ".tsv" else ",")
    samples = read(path, labelled=True)
    np.testing.assert_allclose(samples.features.numpy(), FEATURES, rtol=1e-5)
    np.testing.assert_allclose(samples.probs.numpy(), PROBS, rtol=1e-5)
    assert samples.labels.tolist() == LABELS.tolist() and samples.ids == list(map(str, range(N)))
    assert samples.is_noisy.tolist() == (LABELS == 1).tolist()


def test_lists_as_numpy_writes_them_and_one_column_of_two_classes(tmp_path):
    pandas.DataFrame({"embedding": list(FEATURES), "prob": 0.2 + 0.6 * (LABELS % 2),
                      "label": LABELS % 2}).to_csv(tmp_path / "train.csv")
    samples = read(tmp_path / "train.csv", labelled=True)
    np.testing.assert_allclose(samples.features.numpy(), FEATURES, rtol=1e-5)
    assert samples.probs.shape == (N, 2) and samples.probs[1].tolist() == pytest.approx([0.2, 0.8])


PLAIN = numbered(FEATURES, "f") | numbered(PROBS, "p") | {"label": LABELS}


@pytest.mark.parametrize("changed, message", [
    ({"f7": None}, "expected columns numbered from 0 or 1 on, got 'f0' to 'f11' without 7"),
    ({"f0": None, "f1": None}, "got 'f2' to 'f11' without 0"),
    (numbered(FEATURES, "x_"), "expected one series of columns, got f0 and x_0, …"),
    ({"f3": ["?"] * N}, "column 'f3': expected "),
    ({"f3": [0.5, None] * (N // 2)}, "features: expected finite numbers|got '' in row 1"),
    ({"features": [[1.0, 2.0], [1.0]] * (N // 2)}, "'features': expected lists of one length, got "
                                                   "2 and 1 in row 1"),
    ({"features": ["[0.1 0.2 ... 0.4]"] * N}, "'features': expected "),
    ({"label": ["a", None] * (N // 2)}, "column 'label': no label in row 1; leave such rows out"),
    ({"is_noisy": ["no"] * N}, "column 'is_noisy': expected True or False, got 'no' in row 0"),
    ({"p2": None}, "labels: expected 0 to 1, got 2 in row 2"),
    (dict.fromkeys(numbered(PROBS, "p")), r"missing probs \(or logits\); found features, labels"),
    ({"label": ["a", "b", "b"] * (N // 3)}, "labels are text, and which column is which")])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_what_does_not_fit_is_named(tmp_path, ending, changed, message):
    path = tmp_path / f"train{ending}"
    table = pandas.DataFrame({name: values for name, values in (PLAIN | changed).items()
                              if values is not None})
    table.to_csv(path) if ending == ".csv" else table.to_parquet(path)
    with pytest.raises(InputError, match=message) as error:
        read(path, labelled=True)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("names", [
    ("features", "labels", "probs"), ("train_features", "train_labels", "train_probs"),
    ("X_train", "y_train", "pred_probs_train")])
def test_arrays_beside_one_another(tmp_path, names):
    for name, array in zip(names, (FEATURES, LABELS, PROBS)):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "test_labels.npy", np.zeros(3))
    samples = read(tmp_path / f"{names[0]}.npy", labelled=True)
    assert (samples.features.numpy() == FEATURES).all() and (samples.probs.numpy() == PROBS).all()
    assert samples.labels.tolist() == LABELS.tolist()


def test_an_array_alone_says_what_to_do(tmp_path):
    np.save(tmp_path / "features.npy", FEATURES)
    with pytest.raises(InputError, match=r"missing labels and probs \(or logits\) beside it; "):
        read(tmp_path / "features.npy", labelled=True)
    np.save(tmp_path / "train.npy", FEATURES)
    with pytest.raises(InputError, match=r"train.npy: expected features.npy, with labels.npy and pr"
                                         r".* one file: numpy.savez\("):
        read(tmp_path / "train.npy", labelled=True)
