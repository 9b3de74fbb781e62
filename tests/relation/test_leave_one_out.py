import numpy as np
import pytest
import torch

from relation import fit_leave_one_out, leave_one_out, leave_one_out_probs, unit_rows
from relation.sampling import sample_rows

FIXED = dict(penalty=0.1, softmax_temperature=0.2, dtype=torch.float64)


def noisy_rows(n=60, dim=7, classes=4, seed=0):
    """features, labels, weights: class 3 has a single row, some rows weigh nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes - 1, (n,), generator=generator)
    features = torch.randn(classes, dim, generator=generator)[labels] \
        + torch.randn(n, dim, generator=generator)
    labels[11] = classes - 1
    weights = torch.rand(n, generator=generator, dtype=torch.float64)
    weights[:5] = 0
    return features, labels, weights


def refits(features, labels, classes, weights, *, penalty, softmax_temperature):
    """Each row predicted by a fit to all the others, one after the other."""
    x = unit_rows(features).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    y = torch.nn.functional.one_hot(labels, classes).double()
    predictions = []
    for row in range(len(x)):
        w = weights.clone()
        w[row] = 0
        gram = x.T @ (w[:, None] * x) + penalty * torch.eye(x.shape[1], dtype=torch.float64)
        predictions.append(x[row] @ torch.linalg.solve(gram, x.T @ (w[:, None] * y)))
    return torch.softmax(torch.stack(predictions) / softmax_temperature, 1)


@pytest.mark.parametrize("dim", [1, 7, 59, 60, 200])  # more features than rows from 60 on
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_explicit_refits(dim, weighted):
    features, labels, weights = noisy_rows(dim=dim)
    weights = weights if weighted else torch.ones(len(labels), dtype=torch.float64)
    probs = leave_one_out_probs(features, labels, 5, weights=weights, **FIXED)  # class 4 is absent
    expected = refits(features, labels, 5, weights, penalty=0.1, softmax_temperature=0.2)
    np.testing.assert_allclose(probs, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_block_size_changes_nothing(monkeypatch, block):
    features, labels, weights = noisy_rows()
    expected = leave_one_out_probs(features, labels, 4, weights=weights, dtype=torch.float64)
    slices = leave_one_out.row_slices
    monkeypatch.setattr(leave_one_out, "row_slices", lambda n, step: slices(n, block))
    probs = leave_one_out_probs(features, labels, 4, weights=weights, dtype=torch.float64)
    np.testing.assert_allclose(probs, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dim", [7, 80])
def test_permuting_the_rows_permutes_the_probabilities(dim):
    features, labels, weights = noisy_rows(dim=dim)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    expected = leave_one_out_probs(features, labels, 4, weights=weights, dtype=torch.float64)
    probs = leave_one_out_probs(features[order], labels[order], 4, weights=weights[order],
                                dtype=torch.float64)
    np.testing.assert_allclose(probs, expected[order], rtol=0, atol=1e-8)


def test_settings_minimise_the_cross_entropy():
    features, labels, _ = noisy_rows(n=200)

    def loss(penalty, softmax_temperature):
        probs = leave_one_out_probs(features, labels, 4, penalty=penalty, dtype=torch.float64,
                                    softmax_temperature=softmax_temperature)
        return float(-probs.gather(1, labels[:, None]).log().mean())

    found = fit_leave_one_out(features, labels, 4)
    best = loss(found.penalty, found.softmax_temperature)
    assert best <= min(loss(found.penalty * factor, found.softmax_temperature)
                       for factor in (0.1, 10))
    assert best <= min(loss(found.penalty, found.softmax_temperature * factor)
                       for factor in (0.97, 1.03))


def test_planted_errors_are_the_least_probable(clusters):
    features, _, labels, is_noisy = clusters
    probs = leave_one_out_probs(features, labels, 4)
    assert probs.dtype == torch.float32
    assert is_noisy[(-probs.gather(1, labels[:, None])[:, 0]).topk(8).indices].all()
    assert (probs.argmax(1)[is_noisy] == (labels[is_noisy] - 1) % 4).all()


def test_a_class_of_one_row_is_unknown_without_it():
    features, labels, _ = noisy_rows()
    probs = leave_one_out_probs(features, labels, 4, **FIXED)
    assert probs[11].argmax() != 3 and probs.isfinite().all()


@pytest.mark.parametrize("n, classes", [(1, 1), (1, 3), (2, 1), (5, 2)])
def test_tiny_sets_are_finite(n, classes):
    labels = torch.zeros(n, dtype=torch.int64)
    for features in (torch.zeros(n, 3), torch.ones(n, 3), torch.eye(n, 3)):
        probs = leave_one_out_probs(features, labels, classes)
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)


def test_half_precision_is_storage_alone():
    features, labels, _ = noisy_rows()
    exact = leave_one_out_probs(features.half().float(), labels, 4)
    stored = leave_one_out_probs(features.half(), labels, 4, dtype=torch.float16)
    assert stored.dtype == torch.float16
    np.testing.assert_allclose(stored.float(), exact, atol=1e-3)


def test_sampled_rows_are_ordered_and_repeatable():
    rows, keys = torch.arange(0, 200, 2), torch.arange(200) * 7919 % 200
    found = sample_rows(rows, 10, keys)
    assert len(found) == 10 and (found.diff() > 0).all() and set(found.tolist()) < set(
        rows.tolist())
    assert keys[found].min() > keys[rows[~torch.isin(rows, found)]].max()
    assert torch.equal(rows, sample_rows(rows, 100, keys))


@pytest.mark.parametrize("wrong, message", [
    (dict(features=torch.zeros(0, 2)), r"features: expected floats of shape \(N, D\)"),
    (dict(features=torch.zeros(3, 2).long()), "features: expected floats"),
    (dict(labels=torch.zeros(2).long()), "labels: expected 3 integers of 0 to 1"),
    (dict(labels=torch.full((3,), 2)), "labels: expected 3 integers of 0 to 1"),
    (dict(weights=-torch.ones(3)), "weights: expected 3 numbers of at least 0"),
    (dict(weights=torch.zeros(3)), "weights: .* not all of them 0"),
    (dict(penalty=0), "penalty: expected a number above 0, got 0"),
    (dict(softmax_temperature=-1), "softmax_temperature: expected a number above 0, got -1"),
])
def test_wrong_use(wrong, message):
    right = dict(features=torch.ones(3, 2), labels=torch.zeros(3, dtype=torch.int64), classes=2)
    with pytest.raises(ValueError, match=message):
        leave_one_out_probs(**{**right, **wrong})
