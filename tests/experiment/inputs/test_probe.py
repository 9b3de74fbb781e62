import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiment.inputs import probe


@pytest.fixture
def scattered():
    """features (90, 6) of very different scales, labels (90,) in 3 classes that overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 6, generator=generator)
    features[:, :3] += 1.5 * torch.eye(3)[labels]
    return features * torch.tensor([1, 100, 0.01, 5, 1, 1]) + 7, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_is_scikit_learns_cross_validation(scattered, classes):
    features, labels = scattered
    features, labels = features[labels < classes], labels[labels < classes]
    found = probe.cross_validate(features, labels, classes)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=found.strength, max_iter=1000))
    expected = cross_val_predict(model, features.numpy(), labels.numpy(), method="predict_proba",
                                 cv=StratifiedKFold(5, shuffle=True, random_state=0))
    assert found.folds == 5
    np.testing.assert_allclose(found.probs.numpy(), expected, atol=2e-3)
    assert torch.equal(found.probs, probe.cross_validate(features, labels, classes).probs)


def test_no_label_has_a_say_in_its_own_probabilities():
    """Labels at random, which a fit on more features than rows reproduces: no better than chance
    out-of-sample."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(100, 300, generator=generator)
    labels = torch.randint(0, 2, (100,), generator=generator)
    head = probe.fit_head(features, labels, 2, probe.STRENGTHS[-1])
    assert (head(features).argmax(1) == labels).all()
    held_out = probe.cross_validate(features, labels, 2).probs.argmax(1)
    assert 0.3 < (held_out == labels).double().mean() < 0.7


def test_planted_errors_have_the_largest_loss(clusters):
    features, _, labels, is_noisy = clusters
    probs = probe.cross_validate(features, labels, 4).probs
    own = probs.gather(1, labels[:, None])[:, 0]
    assert is_noisy[own.argsort()[:8]].all()


def test_classes_smaller_than_the_number_of_folds(scattered):
    features, labels = scattered
    labels = labels.clone()
    labels[0], labels[1:3] = 3, 4  # classes of one row and of two
    probs = probe.cross_validate(features, labels, 5).probs
    torch.testing.assert_close(probs.sum(1), torch.ones(90))
    assert probs[0, 3] == 0  # unknown to the fit without it
    assert (probs[1:3, 4] > 0).all()  # each is known by the other


def test_a_fold_whose_other_folds_have_one_class():
    features = torch.tensor([[0.0], [0.1], [0.2], [9.0]])
    probs = probe.cross_validate(features, torch.tensor([0, 0, 0, 1]), 2).probs
    assert probs[3].tolist() == [1, 0]


def test_features_that_do_not_vary_and_classes_without_rows(scattered):
    features, labels = scattered
    features = torch.cat([features, torch.full((90, 1), 3.0)], 1)
    head = probe.fit_head(features, labels, 4, 1.0)
    assert head.weight.isfinite().all() and (head.weight[:, 6] == 0).all()
    probs = torch.softmax(head(features), 1)
    assert (probs[:, 3] == 0).all() and (probs.argmax(1) == labels).double().mean() > 0.7


def test_strength_is_chosen_on_a_sample_of_many_rows(scattered, monkeypatch):
    features, labels = scattered
    asked = []
    choose = probe._choose

    def counted(features, *others):
        asked.append(len(features))
        return choose(features, *others)
    monkeypatch.setattr(probe, "_choose", counted)
    monkeypatch.setattr(probe, "SAMPLED", 40)
    found = probe.cross_validate(features, labels, 3)
    assert asked == [40] and found.probs.shape == (90, 3)
    monkeypatch.setattr(probe, "SAMPLED", 2)  # too few for any fold
    assert probe.cross_validate(features, torch.arange(90) // 2, 45).strength == probe.STRENGTHS[0]


def test_nothing_to_fit_on():
    with pytest.raises(ValueError, match="expected a class of at least two rows, got none"):
        probe.cross_validate(torch.rand(3, 2), torch.arange(3), 3)


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_copied_row_does_not_vouch_for_itself(clusters, kind):
    """Three copies of a row with a wrong label are no better off than it was alone."""
    features, _, labels, _ = clusters
    copied = torch.cat([torch.arange(120), torch.zeros(2, dtype=torch.int64)])
    features = 40 * torch.randn(120, 200, generator=torch.Generator().manual_seed(1)) + \
        torch.nn.functional.pad(features, (0, 184)) * 40
    many = features[copied]
    if kind == "near":
        many[120:] *= 1 + 1e-4 * torch.randn(2, 200, generator=torch.Generator().manual_seed(2))
    alone, together = (probe.cross_validate(x, labels[rows], 4).probs[rows == 0, labels[0]]
                       for x, rows in ((features, torch.arange(120)), (many, copied)))
    assert together.max() < 0.2 and len(together) == 3 and alone < 0.2
    assert together.max() - together.min() < 0.01  # all of them are predicted by one fit


def test_rows_that_are_all_copies_are_rows_like_others():
    features = torch.eye(2, 5).repeat_interleave(4, 0)
    labels = torch.arange(2).repeat_interleave(4)
    found = probe.cross_validate(features, labels, 2)
    assert found.folds == 4 and (found.probs.argmax(1) == labels).all()
