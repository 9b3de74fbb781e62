import numpy as np
import pytest
import torch

from relation import LABEL_BASELINES, evaluate, label_baseline_scores
from relation.label_baselines import BLOCK, confidence_weighted_entropy, margin


@pytest.mark.parametrize("name", LABEL_BASELINES)
def test_golden(golden, name):
    inputs = [torch.from_numpy(golden[key]) for key in ("feat", "prob", "targets")]
    expected = golden[f"baseline/{name}"]
    scores = label_baseline_scores(*inputs)[name]
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(evaluate(scores, golden["noise"])[:3], golden[f"metrics/{name}"],
                               atol=1e-4)


@pytest.mark.parametrize("name", ["loss", "margin", "cwe", "tracin", "jsd"])
def test_planted_errors_rank_first(clusters, name):
    features, probs, labels, is_noisy = clusters
    assert is_noisy[label_baseline_scores(features, probs, labels)[name].topk(8).indices].all()


def test_margin_of_the_largest_is_its_lead():
    probs = torch.tensor([[0.6, 0.3, 0.1]] * 3)
    scores = margin(None, probs, torch.tensor([0, 1, 2]))
    np.testing.assert_allclose(scores, [-0.3, 0.3, 0.5], atol=1e-7)


def test_saturated_correct_row_is_not_suspect():
    """The published entropy is negative here, which would turn the sign of cwe."""
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    sure, unsure = confidence_weighted_entropy(None, probs, torch.tensor([0, 0]))
    assert sure < unsure


def test_one_class_is_finite():
    scores = label_baseline_scores(torch.ones(3, 2), torch.ones(3, 1), torch.zeros(3).long())
    assert all(values.isfinite().all() for values in scores.values())


def test_rows_beyond_one_block():
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(torch.randn(BLOCK + 5, 3, generator=generator), 1)
    labels = torch.randint(0, 3, (BLOCK + 5,), generator=generator)
    scores = label_baseline_scores(torch.ones(BLOCK + 5, 2), probs, labels)
    np.testing.assert_allclose(scores["loss"],
                               -np.log(probs.numpy()[np.arange(len(labels)), labels] + 1e-6),
                               rtol=1e-6)
