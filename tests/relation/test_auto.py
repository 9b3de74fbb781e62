import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from relation import auto, auto_scores, count, evaluate, leave_one_out, neighbours


@pytest.fixture
def blobs():
    """features, true labels, given labels, is_noisy of 600 rows in 3 classes, 60 labels wrong."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(600) % 3
    features = 2 * torch.eye(3, 12)[true] + 0.45 * torch.randn(600, 12, generator=generator)
    given = true.clone()
    given[:60] = (given[:60] + 1) % 3
    return features, true, given, given != true


def sure_of(labels, confidence=0.9):
    """Probabilities (N, 3) of a model that believes `labels`."""
    return torch.where(one_hot(labels, 3).bool(), confidence, (1 - confidence) / 2)


def test_a_model_that_memorised_is_not_asked(blobs):
    features, _, given, is_noisy = blobs
    found = auto_scores(features, sure_of(given), given)
    assert found.regime.model == 1 and found.regime.weight == 0
    assert found.regime.rejected_too == 0 and found.regime.accepted_too == 1
    assert evaluate(found.scores.numpy(), is_noisy.numpy()).ap > 0.95


def test_a_model_that_knows_is_asked(blobs):
    features, true, given, is_noisy = blobs
    found = auto_scores(features, sure_of(true), given)
    assert found.regime.weight > 0.9 and found.regime.model == pytest.approx(0.9)
    assert evaluate(found.scores.numpy(), is_noisy.numpy()).ap > 0.99


def test_a_model_that_knows_nothing_is_not_asked(blobs):
    features, true, given, is_noisy = blobs
    found = auto_scores(features, sure_of((given + 2) % 3), given)  # rejects every label
    assert found.regime.rejected_too == 1 and found.regime.weight == 0
    assert evaluate(found.scores.numpy(), is_noisy.numpy()).ap > 0.95


def test_how_many_are_wrong_and_what_they_are(blobs):
    features, true, given, is_noisy = blobs
    found = auto_scores(features, sure_of(given), given)
    assert found.n_wrong == pytest.approx(60, rel=0.1)
    assert (found.suggested_labels[is_noisy] == true[is_noisy]).float().mean() > 0.95
    assert found.counted.low <= found.n_wrong <= found.counted.high
    assert list(found.parts) == ["loss (loo)", "loss (refit)", "neighbours", "votes",
                                 "neighbours (trusted)"]
    for scores in (*found.parts.values(), found.scores):
        assert scores.shape == (600,) and scores.isfinite().all()
    np.testing.assert_allclose(found.probs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("n, classes", [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_tiny_sets_are_finite(n, classes):
    labels = torch.arange(n) % classes
    for features in (torch.zeros(n, 2), torch.eye(n, 2)):
        found = auto_scores(features, torch.full((n, classes), 1 / classes), labels)
        assert found.scores.isfinite().all() and ((found.scores >= 0) & (found.scores <= 1)).all()
        assert 0 <= found.n_wrong <= n


def test_permuting_the_rows_permutes_the_scores(blobs):
    features, _, given, _ = blobs
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    expected = auto_scores(features, sure_of(given), given)
    found = auto_scores(features[order], sure_of(given)[order], given[order])
    np.testing.assert_allclose(found.scores, expected.scores[order], atol=1e-3)
    assert found.n_wrong == expected.n_wrong


def test_asking_few_classes_is_enough(monkeypatch, blobs):
    features, true, given, is_noisy = blobs
    expected = auto_scores(features, sure_of(true), given)
    monkeypatch.setattr(auto, "DENSE", 0)
    monkeypatch.setattr(auto, "SLOTS", 2)
    found = auto_scores(features, sure_of(true), given)
    assert torch.equal(found.suggested_labels[is_noisy], true[is_noisy])
    assert evaluate(found.scores.numpy(), is_noisy.numpy()).ap > 0.99
    np.testing.assert_allclose(found.parts["loss (loo)"], expected.parts["loss (loo)"], atol=1e-4)


def test_settled_rows_are_trusted_and_not_counted(blobs):
    features, true, given, is_noisy = blobs
    probs = sure_of(given)
    before = auto_scores(features, probs, given)
    none = auto_scores(features, probs, given, settled=torch.zeros(600, dtype=torch.bool))
    torch.testing.assert_close(none.scores, before.scores)
    assert none.counted == before.counted and none.regime == before.regime
    # Two thirds of the wrong labels are found and corrected, and a right label is confirmed that
    # its features contradict.
    labels, settled = torch.where(torch.arange(600) < 40, true, given), torch.arange(600) < 40
    settled[599], features[599] = True, features[597]
    after = auto_scores(features, probs, labels, settled=settled)
    assert torch.equal(after.suggested_labels[settled], labels[settled])
    assert after.voted_labels[599] != labels[599]
    assert after.n_wrong == pytest.approx(20, abs=3)
    assert after.regime.model == 1  # of the others: it rejects every corrected label
    others = after.scores[~settled], (labels != true)[~settled]
    assert evaluate(*(values.numpy() for values in others)).ap > 0.95
    assert auto_scores(features, probs, labels, settled=settled | True).counted == (0, 0, 0, True)


def test_neighbours_trust_settled_rows():
    """In the midst of rows of another class that all look the same nothing but a settled row tells
    of the right one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    features = torch.eye(2, 6)[labels] + 0.1 * torch.randn(80, 6, generator=generator)
    odd = torch.zeros(6)
    odd[0], odd[5] = 1, 1.5  # the first class's, with a mark
    features[[1, 3]] = odd + 0.01 * torch.randn(2, 6, generator=generator)
    probs, settled = torch.full((80, 2), 0.5), torch.arange(80) == 1
    name = "neighbours (trusted)"
    alone, told = (auto_scores(features, probs, labels, settled=rows).parts[name][3]
                   for rows in (None, settled))
    assert told < alone


def test_a_large_set_is_scored_nearly_as_if_it_were_small(monkeypatch, blobs):
    features, true, given, is_noisy = blobs
    expected = auto_scores(features, sure_of(true), given)
    monkeypatch.setattr(auto, "KEPT", 0)
    found = auto_scores(features, sure_of(true), given)
    assert found.probs is None and torch.equal(found.suggested_labels, expected.suggested_labels)
    assert found.n_wrong == pytest.approx(expected.n_wrong, abs=2)
    # All that is left out here is the division by 1 - h, where h is about 13 / 600.
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.02)
    for name, part in expected.parts.items():
        np.testing.assert_allclose(found.parts[name], part, rtol=0.1, atol=0.01)


def test_the_order_of_rows_changes_nothing_where_rows_are_sampled(monkeypatch):
    for module, name in ((leave_one_out, "SAMPLED"), (neighbours, "SAMPLED"), (count, "COUNTED")):
        monkeypatch.setattr(module, name, 300)
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(1400) % 2
    features = torch.eye(2, 12)[true] + 0.5 * torch.randn(1400, 12, generator=generator)
    labels = torch.where(torch.arange(1400) < 70, 1 - true, true)
    probs, order = sure_of(true), torch.randperm(1400, generator=generator)
    inputs = torch.nn.Parameter(features), probs, labels  # as some networks give them
    found, other = auto_scores(*inputs), auto_scores(*(part[order] for part in inputs))
    np.testing.assert_allclose(other.scores, found.scores[order], atol=2e-4)
    assert other.counted == found.counted
