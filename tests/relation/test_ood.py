import numpy as np
import pytest
import torch

from relation import detect_ood, knn_scores
from tests.dense import dense_relation, dense_sums


def test_outliers_rank_first_and_equal_the_dense_formula(clusters):
    features, probs, _, _ = clusters
    generator = torch.Generator().manual_seed(1)
    outliers = torch.randn(6, 16, generator=generator) * torch.tensor([0.0] * 4 + [1.0] * 12)
    test = torch.cat([features[:20], outliers])
    test_probs = torch.cat([probs[:20], torch.full((6, 4), 0.25)])
    train = features[20:], probs[20:]
    scores = detect_ood(test, test_probs, *train)
    s = dense_sums(dense_relation(test, test_probs, None, *train), temperature=1)
    np.testing.assert_allclose(1 / scores, s + 1e-6, rtol=1e-4, atol=1e-7)
    assert set(scores.topk(6).indices.tolist()) == set(range(20, 26))

    cosines = np.sort(dense_relation(test, None, None, train[0], kernel="cos"), axis=1)
    for k in (0, 10):
        neighbours = knn_scores(test, train[0], k=k, chunk=9)
        np.testing.assert_allclose(1 / neighbours, cosines[:, -1 - k] + 1e-6, rtol=1e-4, atol=1e-6)
    assert set(neighbours.topk(6).indices.tolist()) == set(range(20, 26))


def test_knn_needs_enough_training_rows(clusters):
    with pytest.raises(ValueError, match="k: expected 0 to 119"):
        knn_scores(clusters[0], clusters[0], k=120)
