import numpy as np
import pytest
import torch

from relation import fit_leave_one_out, neighbours, unit_rows
from relation.neighbours import ask_neighbours, half_whitened, local_probs, vote_probs
from relation.sampling import row_keys

EVERY = torch.arange(4).expand(120, 4)


def plainly(features, labels, trusted):
    """local and votes (N, 4), row by row."""
    local, votes = torch.full((len(labels), 4), -1.0), torch.zeros(len(labels), 4)
    for row in range(len(labels)):
        cosine = (features.float() @ features[row].float())
        others = trusted.clone()
        others[row] = False
        for label in range(4):
            among = cosine[others & (labels == label)]
            if len(among):
                local[row, label] = among.topk(min(neighbours.CLOSEST, len(among))).values.mean()
        cosine[~others] = 0
        nearest = cosine.clamp(min=0).topk(min(neighbours.NEAREST, len(labels))).indices
        votes[row] = torch.bincount(labels[nearest], cosine[nearest].clamp(min=0), minlength=4)
    return local, votes


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("block", [7, 8192])
def test_equals_the_plain_formula(monkeypatch, clusters, some, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    features, _, labels, is_noisy = clusters
    features = unit_rows(features).half()
    trusted = ~is_noisy if some else torch.ones(120, dtype=torch.bool)
    found = ask_neighbours(features, labels, EVERY, trusted=trusted if some else None)
    local, votes = plainly(features, labels, trusted)
    np.testing.assert_allclose(found.local, local, atol=1e-6)
    np.testing.assert_allclose(found.votes, votes, atol=1e-4)


def test_only_the_classes_that_are_asked_for(clusters):
    features, _, labels, _ = clusters
    features = unit_rows(features).half()
    slots = torch.stack([labels, (labels + 1) % 4, torch.full_like(labels, -1)], 1)
    found = ask_neighbours(features, labels, slots)
    every = ask_neighbours(features, labels, EVERY)
    np.testing.assert_allclose(found.local[:, :2], every.local.gather(1, slots[:, :2]), atol=1e-6)
    assert (found.local[:, 2] == neighbours.NO_CLASS).all() and not found.votes[:, 2].any()
    keys = row_keys(features)
    assert (local_probs(found.local, keys)[:, 2] < 1e-6).all()
    assert (vote_probs(found.votes, slots, torch.full((4,), 0.25), keys)[:, 2] < 1e-6).all()


def test_a_sample_of_a_class_does_not_depend_on_the_order_of_rows(monkeypatch, clusters):
    monkeypatch.setattr(neighbours, "AMONG", 8)
    features, _, labels, _ = clusters
    features, order = unit_rows(features).half(), torch.randperm(120)
    found = ask_neighbours(features, labels, EVERY)
    other = ask_neighbours(features[order], labels[order], EVERY)
    np.testing.assert_allclose(other.local, found.local[order], atol=1e-6)
    np.testing.assert_allclose(other.votes, found.votes[order], atol=1e-5)


@pytest.mark.parametrize("dim", [12, 150])  # 150: more features than rows
def test_half_whitened_features(dim):
    generator = torch.Generator().manual_seed(0)
    features = 3 + torch.randn(90, dim, generator=generator) * torch.linspace(1, 3, dim)
    found = half_whitened(fit_leave_one_out(features, torch.arange(90) % 3, 3)).double()
    x = unit_rows(features).double()
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = s**2 > neighbours.SMALLEST * s[0]**2
    expected = torch.nn.functional.normalize(u[:, kept] * s[kept].sqrt())
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=5e-3)


def test_a_class_without_another_row_has_no_voice():
    features, labels = torch.eye(3).half(), torch.tensor([0, 1, 2])
    slots = torch.arange(3).expand(3, 3)
    for trusted in (None, torch.zeros(3, dtype=torch.bool)):
        found = ask_neighbours(features, labels, slots, trusted=trusted)
        assert (found.local.diagonal() == -1).all() and not found.votes.any()
