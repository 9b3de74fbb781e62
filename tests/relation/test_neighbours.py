import numpy as np
import pytest
import torch

from relation import ask_neighbours, neighbours, unit_rows


def plainly(features, labels, trusted, k):
    """against and winner, row by row."""
    unit, against, winner = unit_rows(features), [], []
    for row in range(len(labels)):
        cosine = (unit @ unit[row]).clamp(min=0)
        cosine[~trusted] = -1
        cosine[row] = -1
        nearest = cosine.topk(min(k, int(trusted.sum()) - int(trusted[row]))).indices
        signs = torch.where(labels[nearest] == labels[row], -1.0, 1.0)
        against.append(float((signs * cosine[nearest]).mean()))
        winner.append(int(torch.bincount(labels[nearest], cosine[nearest]).argmax()))
    return against, winner


@pytest.mark.parametrize("n", [15, 120])  # fewer rows than neighbours, and more
@pytest.mark.parametrize("some", [False, True])
def test_equals_the_plain_formula(clusters, n, some):
    features, _, labels, is_noisy = (tensor[:n] for tensor in clusters)
    trusted = ~is_noisy if some else torch.ones(n, dtype=torch.bool)
    found = ask_neighbours(features, labels, 4, trusted=trusted if some else None)
    against, winner = plainly(features, labels, trusted, neighbours.NEAREST)
    np.testing.assert_allclose(found.against, against, atol=1e-6)
    assert found.winner.tolist() == winner


def test_blocks_change_nothing(monkeypatch, clusters):
    features, _, labels, _ = clusters
    expected = ask_neighbours(features, labels, 4)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    found = ask_neighbours(features, labels, 4)
    np.testing.assert_allclose(found.against, expected.against, atol=1e-6)
    assert torch.equal(found.winner, expected.winner)


def test_a_sample_of_the_rows_is_enough(monkeypatch, clusters):
    features, _, labels, is_noisy = clusters
    monkeypatch.setattr(neighbours, "AMONG", 90)
    found = ask_neighbours(features, labels, 4)
    assert is_noisy[found.against.topk(8).indices].all()
    assert ((found.winner != labels) == is_noisy).all()


def test_nobody_to_ask():
    features, labels = torch.eye(3), torch.tensor([0, 1, 2])
    for trusted in (None, torch.zeros(3, dtype=torch.bool)):
        found = ask_neighbours(features, labels, 3, trusted=trusted)  # orthogonal, or nobody
        assert not found.against.any() and torch.equal(found.winner, labels)
    alone = ask_neighbours(features[:1], labels[:1], 3)
    assert alone.against.tolist() == [0] and alone.winner.tolist() == [0]
