"""`auto` of outliers: the dense formula, each training row left out by force, planted outliers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relation import (
    Outputs,
    auto_outlier_scores,
    evaluate,
    left_out_outlier_scores,
    ood_auto,
    ood_witnesses,
    references,
)
from relation.gaussian import fit_gaussian, oas_shrinkage

D, C = 6, 3
CPU = torch.device("cpu")


def draw(n, *, seed, spread=3.0, labels=None):
    """Rows around C centres, and the outputs of a linear head."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C if labels is None else labels
    features = spread * torch.eye(C, D)[labels] + torch.randn(n, D, generator=generator)
    logits = 2 * features[:, :C]
    return Outputs(features, logits.softmax(1), labels, -logits.logsumexp(1))


def dense_scores(test, train, itself=None):
    """(6, N) by the formulas, in float64 numpy; `itself` is the training row to leave out, whose
    covariance keeps the shrinkage and the divisor of all rows."""
    features, probs, labels = (part.double().numpy() for part in train[:3])
    labels = labels.astype(int)
    kept = np.arange(len(features)) != itself
    whole = np.concatenate([features[labels == c] - features[labels == c].mean(0)
                            for c in np.unique(labels)])
    covariance = whole.T @ whole / len(features)
    shrinkage = oas_shrinkage(torch.from_numpy(covariance), len(features) - len(set(labels)))
    level = np.trace(covariance) / D

    def shrunk(rows):
        means = {c: features[rows & (labels == c)].mean(0) for c in np.unique(labels[rows])}
        d = np.stack([features[row] - means[labels[row]] for row in rows.nonzero()[0]])
        return means, ((1 - shrinkage) * d.T @ d / len(features)
                       + shrinkage * level * np.eye(D))

    means, inverse = shrunk(kept)[0], np.linalg.inv(shrunk(kept)[1])
    values, vectors = np.linalg.eigh(shrunk(kept | True)[1])
    whiten = vectors / np.sqrt(values)
    x, p = test.features.double().numpy(), test.probs.double().numpy()
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, features)]
    scores = [test.energy.numpy()]
    for a, b in (unit, (x / np.sqrt(level), features / np.sqrt(level)),
                 (x @ whiten, features @ whiten)):
        distance = np.linalg.norm(a[:, None] - b[None, kept], axis=2)
        scores.append(np.sort(distance, axis=1)[:, min(2, kept.sum()) - 1])
    relation = np.maximum(unit[0] @ unit[1][kept].T, 0) * (p @ probs[kept].T)
    scores.append(-relation.mean(1))
    scores.append(np.min([np.einsum("ni,ij,nj->n", x - m, inverse, x - m)
                          for m in means.values()], axis=0))
    return np.stack(scores)


def dense_surprise(values, x):
    values = np.sort(values)
    m, bound = len(values), np.sort(values)[int(0.9 * len(values))]
    beyond = values[values > bound]
    counted = -np.log(((values > x).sum() + (values == x).sum() / 2 + 0.5) / (m + 1))
    start = -np.log((len(beyond) + 0.5) / (m + 1))
    if x > bound and len(beyond):
        return start + np.log1p((x - bound) / (beyond - bound).mean())
    return min(counted, start) if len(beyond) else counted


def test_new_rows_are_scored_by_the_dense_formulas():
    train, test = draw(60, seed=0), draw(20, seed=1, spread=2.0)
    found = ood_witnesses.fit_witnesses(train, with_energy=True, device=CPU).of(test)
    np.testing.assert_allclose(found, dense_scores(test, train), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labels", [torch.arange(40) % C,
                                    torch.tensor([0] * 25 + [1] * 14 + [2])])  # a class of one
def test_training_rows_are_scored_by_a_fit_without_them(labels):
    train = draw(40, seed=2, labels=labels)
    found = ood_witnesses.fit_witnesses(train, with_energy=True, device=CPU) \
        .without(torch.arange(40))
    for row in range(40):
        expected = dense_scores(train.take(slice(row, row + 1)), train, itself=row)
        np.testing.assert_allclose(found[:, row], expected[:, 0], rtol=2e-4, atol=1e-5)


def test_the_parts_are_tail_probabilities_and_auto_the_mean_of_the_two_largest():
    train, test = draw(60, seed=0), draw(20, seed=1, spread=2.0)
    witnesses = ood_witnesses.fit_witnesses(train, with_energy=True, device=CPU)
    usual, values = witnesses.without(torch.arange(60)).numpy(), witnesses.of(test).numpy()
    found = auto_outlier_scores(test, train)
    expected = [[dense_surprise(v, x) for x in xs] for v, xs in zip(usual, values)]
    assert list(found.parts) == list(ood_witnesses.NAMES)
    np.testing.assert_allclose(torch.stack([*found.parts.values()]), expected, rtol=1e-5)
    np.testing.assert_allclose(found.scores, np.sort(expected, axis=0)[-2:].mean(0), rtol=1e-5)
    left_out = left_out_outlier_scores(train)
    expected = [[dense_surprise(v, x) for x in v] for v in usual]
    np.testing.assert_allclose(left_out.scores, np.sort(expected, axis=0)[-2:].mean(0), rtol=1e-5)


def test_the_tail_rises_beyond_all_that_was_seen():
    tail = ood_auto.fit_tail(torch.arange(100.0))
    x = torch.tensor([-5.0, 0, 50, 89.5, 90, 90.5, 99, 200, 1e9]).double()
    rising = tail.surprise(x)
    assert (rising.diff() > 0).all() and rising[0] < 0.01 and rising[-1] < 25
    assert tail.surprise(torch.tensor([49.5]).double()) == pytest.approx(np.log(2), abs=1e-6)


def test_rounding_makes_no_tail():
    values = torch.cat([torch.arange(9.0).double(), torch.tensor([9.0, 9.0 + 1e-7]).double()])
    assert ood_auto.fit_tail(values).excess == 0
    assert float(ood_auto.fit_tail(values).surprise(torch.tensor([50.0]).double())) < 4


def test_planted_outliers_come_first_whatever_makes_them_odd():
    train, test = draw(300, seed=3), draw(60, seed=4)
    far = draw(10, seed=5)
    off = far.features.clone()
    off[:, C:] += 8  # a direction that no training row has
    unsure = torch.full((10, C), 1 / C)
    for features, probs, energy in ((off, far.probs, far.energy), (4 * far.features, far.probs,
                                    far.energy), (torch.zeros(10, D), unsure, torch.zeros(10))):
        both = Outputs(torch.cat([test.features, features]), torch.cat([test.probs, probs]), None,
                       torch.cat([test.energy, energy]))
        scores = auto_outlier_scores(both, train).scores
        assert evaluate(scores.numpy(), (torch.arange(70) >= 60).numpy()).auroc > 0.95


def test_a_planted_training_row_is_found_without_itself():
    train = draw(300, seed=6)
    train.features[[7, 80]] = torch.tensor([[0.0] * 5 + [9.0], [0.0] * 4 + [9.0, 0.0]])
    scores = left_out_outlier_scores(train._replace(energy=None)).scores
    assert set(scores.topk(2).indices.tolist()) == {7, 80}
    assert scores.shape == (300,) and scores.isfinite().all()


def test_left_out_training_rows_look_like_test_rows():
    """What calibration is for: the mean of -log P of new rows of the same kind is that of left-out
    training rows, where rows judged with themselves would look better than they are."""
    new, old = [], []
    for seed in (7, 17, 27, 37):  # the mean of 400 rows alone varies by a tenth
        train, test = draw(400, seed=seed), draw(400, seed=seed + 1)
        new.append(float(auto_outlier_scores(test, train).scores.mean()))
        old.append(float(left_out_outlier_scores(train).scores.mean()))
    assert sum(new) == pytest.approx(sum(old), rel=0.08)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 12), m=st.integers(1, 40), block=st.integers(1, 50),
       seed=st.integers(0, 10**6))
def test_blocks_and_the_order_of_rows_cannot_be_seen(n, m, block, seed):
    train, test = draw(m, seed=seed), draw(n, seed=seed + 1, spread=1.0)
    expected = auto_outlier_scores(test, train).scores
    left_out = left_out_outlier_scores(train).scores
    assert expected.isfinite().all() and left_out.isfinite().all()
    generator = torch.Generator().manual_seed(seed)
    rows, others = torch.randperm(n, generator=generator), torch.randperm(m, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ood_witnesses, "BLOCK", block)
        patch.setattr(ood_auto, "JUDGED", block + 3)
        found = auto_outlier_scores(test.take(rows), train.take(others)).scores
        found_left_out = left_out_outlier_scores(train.take(others)).scores
    # Rows that rounding makes equal or not change P by half a row, and the tail by as much where
    # such a row is its bound: in each of the two parts that count half.
    np.testing.assert_allclose(found, expected[rows], atol=1e-3 + 9 / m)
    np.testing.assert_allclose(found_left_out, left_out[others], atol=1e-3 + 9 / m)


def test_samples_of_many_rows_stand_for_all(monkeypatch):
    train, test = draw(2000, seed=9), draw(200, seed=10, spread=1.0)
    whole = auto_outlier_scores(test, train).scores
    monkeypatch.setattr(references, "REFERENCES", 500)
    monkeypatch.setattr(references, "OF_A_CLASS", 150)
    monkeypatch.setattr(ood_auto, "CALIBRATED", 500)
    sampled = auto_outlier_scores(test, train).scores
    assert np.corrcoef(whole, sampled)[0, 1] > 0.95
    left_out = left_out_outlier_scores(train).scores
    assert left_out.shape == (2000,) and left_out.isfinite().all()


def test_without_energy_and_labels_the_probabilities_serve():
    train, test = draw(90, seed=11), draw(30, seed=12, spread=1.0)
    bare = auto_outlier_scores(Outputs(*test[:2]), Outputs(*train[:2]))
    predicted = train._replace(labels=train.probs.argmax(1), energy=None)
    assert torch.equal(bare.scores, auto_outlier_scores(test, predicted).scores)
    assert torch.equal(bare.scores, auto_outlier_scores(
        test._replace(energy=None), train._replace(labels=predicted.labels)).scores)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_unit_of_the_features_cannot_be_seen(scale):
    train, test = draw(60, seed=0), draw(20, seed=1, spread=2.0)
    found = auto_outlier_scores(test._replace(features=scale * test.features),
                                train._replace(features=scale * train.features))
    torch.testing.assert_close(found.scores, auto_outlier_scores(test, train).scores, rtol=2e-2,
                               atol=2e-2)


def test_rows_that_are_all_the_same_are_finite():
    same = Outputs(torch.ones(8, D), torch.full((8, 1), 1.0), torch.zeros(8, dtype=torch.int64))
    new = same._replace(features=torch.eye(8, D))
    assert left_out_outlier_scores(same).scores.isfinite().all()
    assert auto_outlier_scores(new, same).scores.isfinite().all()


def test_more_features_than_rows():
    generator = torch.Generator().manual_seed(13)
    features = torch.randn(12, 40, generator=generator)
    train = Outputs(features, torch.eye(2)[torch.arange(12) % 2], torch.arange(12) % 2)
    assert left_out_outlier_scores(train).scores.isfinite().all()
    assert fit_gaussian(features, train.labels).shrinkage > 0.1


@pytest.mark.parametrize("changed, message", [
    (dict(features=torch.ones(3)), r"^features: expected floats of shape \(N, D\)"),
    (dict(features=torch.ones(20, D + 1)), f"target_features: expected {D + 1} columns, got {D}"),
    (dict(probs=torch.ones(19, C)), r"^probs: expected shape \(20, C\), got \(19, 3\)"),
    (dict(probs=torch.ones(20, 2)), "target_probs: expected 2 columns, got 3"),
    (dict(energy=torch.ones(20, 1)), r"^energy: expected shape \(20,\), got \(20, 1\)"),
    (dict(labels=torch.ones(2)), r"^labels: expected shape \(20,\), got \(2,\)"),
])
def test_wrong_shapes_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        auto_outlier_scores(draw(20, seed=1)._replace(**changed), draw(60, seed=0))
