import numpy as np
import pytest
import torch

from relation import KERNELS, detect_label_noise, evaluate
from tests.dense import dense_relation, dense_sums


@pytest.mark.parametrize("chunk", [1, 113, 600])
@pytest.mark.parametrize("temperature", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("kernel", KERNELS)
def test_golden(golden, kernel, temperature, chunk):
    case = f"{kernel}/pow{temperature}"
    inputs = [torch.from_numpy(golden[name]) for name in ("feat", "prob", "targets")]
    found = detect_label_noise(*inputs, kernel=kernel, temperature=temperature, chunk=chunk)
    refined = golden[f"refined/{case}"]
    np.testing.assert_array_equal(found.estimated_noise, golden[f"estimated_noise/{case}"])
    np.testing.assert_allclose(found.reliability, refined, atol=1e-5 * np.abs(refined).max())
    np.testing.assert_allclose(found.scores, -refined / np.abs(refined).max(), atol=1e-5)
    np.testing.assert_allclose(evaluate(found.scores, golden["noise"])[:3],
                               golden[f"metrics/relation/{case}"], atol=1e-4)


@pytest.mark.parametrize("n_iter", [1, 2, 3, 5])
def test_iterations_equal_the_dense_algorithm(golden, n_iter):
    inputs = [torch.from_numpy(golden[name]) for name in ("feat", "prob", "targets")]
    r = dense_relation(*inputs)
    s = initial = dense_sums(r, temperature=2)
    for _ in range(n_iter - 1):
        estimated = s / np.abs(s).max() < -0.02
        s = initial - 2 * dense_sums(r[:, estimated], temperature=2)
    found = detect_label_noise(*inputs, temperature=2, noise_threshold=0.02, n_iter=n_iter)
    np.testing.assert_allclose(found.reliability, s, atol=1e-5 * np.abs(s).max())


def test_planted_errors_rank_first(clusters):
    features, probs, labels, is_noisy = clusters
    found = detect_label_noise(features, probs, labels)
    assert is_noisy[found.scores.argsort(descending=True)[:8]].all()
    assert torch.equal(found.estimated_noise, is_noisy)
    assert found.scores.abs().max() == 1


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 120, 4)], ids=["one row", "one class"])
def test_degenerate_sets_have_finite_scores(clusters, rows):
    features, probs, labels, _ = (field[rows] for field in clusters)
    assert detect_label_noise(features, probs, labels).scores.isfinite().all()


def test_no_edge_above_the_threshold_scores_zero(clusters):
    features, probs, labels, _ = clusters
    found = detect_label_noise(features, probs, labels, threshold=1.5)
    assert not found.scores.any() and not found.estimated_noise.any()


@pytest.mark.parametrize("wrong, message", [
    (dict(n_iter=0), "n_iter: expected at least 1, got 0"),
    (dict(noise_threshold=-0.1), "noise_threshold: expected at least 0, got -0.1"),
])
def test_wrong_use(clusters, wrong, message):
    with pytest.raises(ValueError, match=message):
        detect_label_noise(*clusters[:3], **wrong)
