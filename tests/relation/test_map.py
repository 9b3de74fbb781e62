import numpy as np
import pytest
import torch

import relation
from relation import map as module
from tests.dense import dense_relation


def made_up_epochs(n=50, e=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return [(torch.randn(n, 8, generator=generator),
             torch.softmax(torch.randn(n, 3, generator=generator), 1), labels) for _ in range(e)]


@pytest.mark.parametrize("kernel", relation.KERNELS)
@pytest.mark.parametrize("block", [8192, 7])
def test_equals_the_dense_formulas(monkeypatch, kernel, block):
    monkeypatch.setattr(module, "BLOCK", block)
    epochs, rows = made_up_epochs(), torch.tensor([49, 3])
    found = relation.relation_map(iter(epochs), rows, kernel=kernel)
    dense = np.stack([dense_relation(*epoch, kernel=kernel)[rows] for epoch in epochs])
    np.testing.assert_allclose(found.mean, dense.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.variance, dense.var(0), atol=1e-7)
    np.testing.assert_allclose(found.last, dense[-1], atol=1e-6)


def test_without_labels_the_relation_has_no_sign():
    epochs = made_up_epochs()
    found = relation.relation_map([(f, p, None) for f, p, _ in epochs], torch.tensor([0]))
    signed = relation.relation_map(epochs, torch.tensor([0]))
    assert (found.last >= 0).all()
    torch.testing.assert_close(found.last, signed.last.abs())


def test_equal_epochs_have_no_variance_and_one_has_none_either():
    epoch = made_up_epochs(e=1)[0]
    for epochs in ([epoch], [epoch] * 5):
        found = relation.relation_map(epochs, torch.arange(50))
        assert (found.variance == 0).all()
        torch.testing.assert_close(found.mean, found.last)


def test_a_small_variance_beside_a_large_mean_is_kept():
    """Two epochs whose relations are 1 and cos(0.001): squares summed in float32 would lose it."""
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    turned = torch.tensor([[1.0, 0.0], [np.cos(0.02), np.sin(0.02)]])
    labels = torch.zeros(2, dtype=torch.int64)
    found = relation.relation_map([(features, None, labels), (turned, None, labels)],
                                  torch.tensor([0]), kernel="cos")
    assert float(found.variance[0, 1]) == pytest.approx(((1 - np.cos(0.02)) / 2) ** 2, rel=1e-2)


def test_half_precision_is_compared_on_the_rounded_inputs():
    epochs = [(f.half(), p.half(), labels) for f, p, labels in made_up_epochs()]
    found = relation.relation_map(epochs, torch.tensor([5]))
    dense = np.stack([dense_relation(*epoch)[[5]] for epoch in epochs])
    np.testing.assert_allclose(found.variance, dense.var(0), atol=1e-6)


def test_strongest_finds_the_planted_rows_and_never_the_row_itself():
    """Row 1 is always near, row 2 always contradicts, row 3 comes and goes; others are far."""
    far = torch.eye(8)[[0, 0, 0, 4, 4, 5, 6, 7]]
    near = far.clone()
    near[3] = near[0]
    labels = torch.tensor([0, 0, 1, 0, 0, 1, 1, 1])
    rows = torch.tensor([0, 5])
    found = relation.relation_map([(far, None, labels), (near, None, labels)], rows, kernel="cos")
    best = relation.strongest(found, rows, 3)
    assert set(best[0, :2].tolist()) == {1, 2} and int(best[0, 2]) == 3
    assert found.mean[0, :4].tolist() == [1, 1, -1, 0.5] and float(found.variance[0, 3]) == 0.25
    everything = relation.strongest(found, rows, 100)
    assert everything.shape == (2, 7)
    assert 0 not in everything[0] and 5 not in everything[1]


def test_wrong_use():
    epochs = made_up_epochs()
    with pytest.raises(ValueError, match="expected at least one, got none"):
        relation.relation_map([], torch.tensor([0]))
    with pytest.raises(ValueError, match="rows: expected 0 to 49, got 0 to 50"):
        relation.relation_map(epochs, torch.tensor([0, 50]))
    with pytest.raises(ValueError, match="rows: expected 0 to 49, got -1"):
        relation.relation_map(epochs, torch.tensor([-1]))
    with pytest.raises(ValueError, match="expected 50 rows in each, got 49"):
        relation.relation_map([epochs[0], tuple(t[:49] for t in epochs[1])], torch.tensor([0]))
    with pytest.raises(ValueError, match="kernel: expected one of"):
        relation.relation_map(epochs, torch.tensor([0]), kernel="rbf")
