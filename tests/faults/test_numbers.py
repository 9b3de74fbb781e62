"""Extreme numbers through the whole pipelines: finite and ordered, or refused by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import relation
from experiment.command.errors import InputError
from experiment.inputs import feature_file
from experiment.inputs.samples import Samples
from experiment.run import label_errors, ood, ood_baselines
from experiment.run.settings import Settings

pytestmark = pytest.mark.promise("numbers")
N, D, C = 60, 8, 3
TRUE = torch.arange(N) % C
LABELS = TRUE.clone()
LABELS[:4] = (LABELS[:4] + 1) % C
FEATURES = (3 * torch.eye(C, D)[TRUE]
            + 0.4 * torch.randn(N, D, generator=torch.Generator().manual_seed(0)))
PROBS = torch.softmax(4 * torch.eye(C)[TRUE] + torch.randn(
    N, C, generator=torch.Generator().manual_seed(1)), 1)


def how(dtype="float32", kernel="cos_p", temperature=4, **changes):
    return Settings(kernel, temperature, 0.03, 1, 250, dtype, "cpu", **changes)


def label_scores(features, probs, labels=LABELS, **options):
    """Every score of the table by name."""
    found = label_errors.find_label_errors(
        Samples("rows", features, probs, labels), how(**options), progress=False)
    return found.scores, found.notes


def finite_and_ordered(scores):
    for name, values in scores.items():
        assert values.isfinite().all(), name
    planted = scores["relation"][:4]
    assert (planted[:, None] > scores["relation"][4:]).all()


SCALES = {"1": 1.0, "1e30": 1e30, "1e-30": 1e-30, "1e15": 1e15, "1e-15": 1e-15, "denormal": 1e-42,
          "near the largest": 2e37}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("scale", SCALES)
def test_scale_of_the_features(scale, dtype):
    scores, notes = label_scores(FEATURES * SCALES[scale], PROBS, dtype=dtype)
    if scale == "denormal":  # digits are lost there: the order of planted rows is what is left
        assert all(values.isfinite().all() for values in scores.values())
        return
    finite_and_ordered(scores)
    if scale != "1":
        plain, _ = label_scores(FEATURES, PROBS, dtype=dtype)
        torch.testing.assert_close(scores["relation"], plain["relation"], rtol=1e-4, atol=1e-5)
    if scale in ("1e30", "near the largest"):
        assert any("tracin is left out: it overflows" in note for note in notes)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_all_scales_together(dtype):
    scale = 10.0 ** torch.linspace(-30, 30, N)
    scores, _ = label_scores(FEATURES * scale[:, None], PROBS, dtype=dtype)
    finite_and_ordered(scores)


@pytest.mark.parametrize("features, note", [
    (torch.ones(N, D), None), (torch.zeros(N, D), "have a feature of zeros"),
    (torch.full((N, D), 1e-45), None), (torch.full((N, D), 3e38), None),
    (torch.cat([torch.zeros(5, D), FEATURES[5:]]), "5 of 60 rows have a feature of zeros")])
def test_constant_features(features, note):
    scores, notes = label_scores(features, PROBS)
    assert all(values.isfinite().all() for values in scores.values())
    assert note is None or any(note in line for line in notes)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_probabilities_of_exactly_0_and_1(dtype):
    """Wrong rows are as certain as right ones; each score stays finite."""
    for probs in (torch.eye(C)[TRUE], torch.eye(C)[LABELS], torch.eye(C)[torch.zeros_like(TRUE)],
                  torch.full((N, C), 1 / C)):
        scores, _ = label_scores(FEATURES, probs, dtype=dtype)
        assert all(values.isfinite().all() for values in scores.values())
    finite_and_ordered(label_scores(FEATURES, torch.eye(C)[TRUE], dtype=dtype)[0])


@pytest.mark.parametrize("logits", [1e30, -1e30, 1e4, 88.0])
def test_logits_that_saturate(logits):
    probs = torch.softmax(logits * torch.eye(C)[TRUE], 1)
    scores, _ = label_scores(FEATURES, probs)
    assert all(values.isfinite().all() for values in scores.values())


@pytest.mark.parametrize("temperature", [0.01, 1, 4, 1000])
@pytest.mark.parametrize("kernel", ["cos_p", "cos"])
def test_extreme_temperatures(temperature, kernel):
    scores, _ = label_scores(FEATURES, PROBS, temperature=temperature, kernel=kernel)
    assert all(values.isfinite().all() for values in scores.values())


@pytest.mark.parametrize("copies", [2, 100])
def test_copies_multiply_the_reliability(copies):
    once = relation.relation_scores(FEATURES, PROBS, LABELS)
    many = relation.relation_scores(FEATURES.repeat(copies, 1), PROBS.repeat(copies, 1),
                                    LABELS.repeat(copies))
    torch.testing.assert_close(many, copies * once.repeat(copies), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["1", "1e30", "1e-30", "near the largest"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_outliers(scale, dtype):
    """Every OOD score is finite or left out with a line; the planted outliers come first."""
    far = torch.randn(10, D, generator=torch.Generator().manual_seed(2))
    features = torch.cat([FEATURES, far]) * SCALES[scale]
    probs = torch.cat([PROBS, torch.full((10, C), 1 / C)])
    weight = torch.eye(C, D)
    train = Samples("train", FEATURES * SCALES[scale], PROBS, LABELS, logits=PROBS.log(),
                    weight=weight, bias=torch.zeros(C))
    test = Samples("test", features, probs, logits=probs.log(), weight=weight,
                   bias=torch.zeros(C))
    found = ood.find_ood(train, test, how(dtype=dtype, temperature=1),
                                  detectors=ood_baselines.find(), progress=False)
    scores = found.scores
    assert all(values.isfinite().all() for values in scores.values())
    left_out = {note.split(" is left out")[0] for note in found.notes if "is left out" in note}
    assert left_out | scores.keys() == {*ood_baselines.BASELINES, "relation", "auto"}
    assert found.relation_score[N:].min() > found.relation_score[:N].max()
    planted = (torch.arange(N + 10) >= N).numpy()
    assert "auto" not in scores or \
        relation.evaluate(scores["auto"].numpy(), planted).auroc > 0.9


WRONG = {
    "NaN": ("features", float("nan"), "features: expected finite numbers, got NaN or infinity"),
    "infinity": ("features", float("inf"), "features: expected finite"),
    "beyond float32": ("features", 1e39, "features: expected numbers that float32 can hold"),
    "logits beyond float32": ("logits", 1e39, "logits: expected numbers that float32 can hold"),
    "NaN in logits": ("logits", float("nan"), "logits: expected finite"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_computed_with_is_refused(tmp_path, what):
    name, value, message = WRONG[what]
    arrays = {"features": FEATURES.double().numpy(), "logits": PROBS.log().double().numpy()}
    arrays[name][7, 1] = value
    np.savez(tmp_path / "train.npz", labels=LABELS.numpy(), **arrays)
    with pytest.raises(InputError, match=f"train.npz: {message}.* row 7"):
        feature_file.read(tmp_path / "train.npz", labelled=True)


def test_wide_features_that_vanish_in_float32_are_said_to_be_zero():
    wide = FEATURES.double()
    scores, notes = label_scores(torch.cat([wide[:50], wide[50:] * 1e-60]), PROBS)
    assert all(values.isfinite().all() for values in scores.values())
    assert any("10 of 60 rows have a feature of zeros" in note for note in notes)


rows = st.integers(2, 40)


def drawn(n, seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    features = torch.randn(n, 6, generator=generator) + 2 * torch.eye(classes, 6)[labels]
    probs = torch.softmax(2 * torch.randn(n, classes, generator=generator), 1)
    return features, probs, labels


many = settings(max_examples=40, deadline=None)


@many
@given(n=rows, seed=st.integers(0, 10**6), kernel=st.sampled_from(["cos", "cos_p"]),
       temperature=st.sampled_from([0.5, 1, 4, 6]))
def test_permuting_the_rows_permutes_the_scores(n, seed, kernel, temperature):
    features, probs, labels = drawn(n, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + 1))
    options = dict(kernel=kernel, temperature=temperature)
    straight = relation.relation_scores(features, probs, labels, **options)
    mixed = relation.relation_scores(features[order], probs[order], labels[order], **options)
    torch.testing.assert_close(mixed, straight[order], rtol=1e-4, atol=1e-5)


@many
@given(n=rows, seed=st.integers(0, 10**6), kernel=st.sampled_from(["cos", "cos_p"]))
def test_doubling_the_data_doubles_the_reliability(n, seed, kernel):
    features, probs, labels = drawn(n, seed)
    once = relation.relation_scores(features, probs, labels, kernel=kernel)
    twice = relation.relation_scores(*(torch.cat([part, part]) for part in
                                       (features, probs, labels)), kernel=kernel)
    torch.testing.assert_close(twice, 2 * torch.cat([once, once]), rtol=1e-4, atol=1e-5)


@many
@given(n=rows, seed=st.integers(0, 10**6), exponent=st.integers(-100, 100),
       each=st.booleans())
def test_scaling_features_changes_nothing(n, seed, exponent, each):
    """By powers of two, exactly representable: all rows alike, or each its own."""
    features, probs, labels = drawn(n, seed)
    scale = 2.0 ** torch.full((n, 1), exponent)
    if each:
        generator = torch.Generator().manual_seed(seed)
        scale *= 2.0 ** torch.randint(-20, 20, (n, 1), generator=generator)
    plain = relation.relation_scores(features, probs, labels)
    scaled = relation.relation_scores(features * scale, probs, labels)
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)
