"""Rows that others are compared with: the dense formula where each class is a group of its own."""

import numpy as np
import pytest
import torch

from relation import gaussian, references
from relation.gaussian import fit_gaussian
from relation.ood_witnesses import Outputs, fit_witnesses
from relation.sampling import row_keys

N, D, C = 120, 5, 4
CPU = torch.device("cpu")


def draw(n=N, seed=0, beyond=3):
    """Rows of the classes 0, 1 and `beyond`, which has a single row."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1])[torch.randint(2, (n,), generator=generator)]
    features = 2 * torch.eye(C, D)[labels] + torch.randn(n, D, generator=generator)
    labels[0] = beyond
    return Outputs(features, (2 * features[:, :C]).softmax(1), labels)


def dense(train, test, itself, most):
    """(4, B) in float64 numpy: each row by itself, with the classes that it is compared with."""
    within = fit_gaussian(train.features, train.labels)
    keys = row_keys(train.features)
    x = [within.centred(rows.features.double()).double().numpy() for rows in (test, train)]
    white = [part @ within.whiten.double().numpy() for part in x]
    origin = within.from_origin.double().numpy()
    unit = [(part + origin) / np.linalg.norm(part + origin, axis=1, keepdims=True) for part in x]
    kernel = np.maximum(unit[0] @ unit[1].T, 0) * (test.probs @ train.probs.T).double().numpy()
    present = train.labels.unique().tolist()
    found = []
    for row in range(len(test.labels)):
        at = test.take(slice(row, row + 1))
        labels = None if itself is None else train.labels[itself[row:row + 1]]
        nearest = int(within.distances(
            within.centred(at.features.double()) @ within.whiten, labels)[1])
        distances, related = [], 0.0
        for label in {present[nearest], int(at.probs.argmax())} & set(present):
            members = (train.labels == label).nonzero()[:, 0]
            chosen = members[keys[members].argsort(descending=True)[:most]].numpy()
            chosen = chosen[chosen != (-1 if itself is None else int(itself[row]))]
            distances.append([np.linalg.norm(b[chosen] - a[row], axis=1)
                              for a, b in (unit, x, white)])
            related += kernel[row, chosen].sum() * len(members) / max(1, len(chosen))
        nearer = np.sort(np.concatenate(distances, axis=1), axis=1)[:, :2]
        found.append([*nearer[:, -1], -related / len(train.labels)])
    return np.array(found).T


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(references, "REFERENCES", 50)
    monkeypatch.setattr(references, "FEWEST", 2)
    monkeypatch.setattr(gaussian, "COLUMNS", 2)


@pytest.mark.parametrize("most", [N, 8, 2])
@pytest.mark.parametrize("of_training", [True, False])
@pytest.mark.parametrize("beyond", [3, 7])  # one more than there are probabilities
def test_each_class_is_a_group(monkeypatch, most, of_training, beyond):
    monkeypatch.setattr(references, "OF_A_CLASS", most)
    train, test = draw(beyond=beyond), draw(40, seed=1)
    witnesses = fit_witnesses(train, with_energy=False, device=CPU)
    if of_training:
        itself = torch.arange(N)
        found, expected = witnesses.without(itself), dense(train, train, itself, most)
    else:
        found, expected = witnesses.of(test), dense(train, test, None, most)
    np.testing.assert_allclose(found[1:5], expected, rtol=2e-4, atol=1e-5)


def test_many_classes_share_the_references(monkeypatch):
    monkeypatch.setattr(references, "OF_ALL_CLASSES", 12)
    chosen = fit_witnesses(draw(), with_energy=False, device=CPU).references
    assert np.diff(chosen.starts).tolist() == [4, 4, 1] and sum(chosen.counts) == N
    assert chosen.group_of.tolist() == [0, 1, -1, 2]


@pytest.mark.parametrize("constant, value", [("OF_ALL_CLASSES", 5), ("FEWEST", 41)])
def test_too_many_or_too_small_classes_are_one_group(monkeypatch, constant, value):
    monkeypatch.setattr(references, constant, value)
    train = draw()
    witnesses = fit_witnesses(train, with_energy=False, device=CPU)
    chosen = witnesses.references
    assert chosen.starts == [0, 50] and chosen.counts == [N] and chosen.group_of is None
    assert chosen.rows.tolist() == sorted(row_keys(train.features).topk(50).indices.tolist())
    near = witnesses.without(torch.arange(N))[1:4]
    assert (near > 0).all()  # no row is its own reference
