import numpy as np
import pytest
import torch

from relation import KERNELS, Prepared, detect_label_noise, evaluate, pruning, relation_scores
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


def test_all_steps_share_one_search_for_pairs(golden, monkeypatch):
    searched = []
    monkeypatch.setattr(pruning, "find_peaks", lambda *arguments, find=pruning.find_peaks: (
        searched.append(1), find(*arguments))[1])
    inputs = [torch.from_numpy(golden[name]) for name in ("feat", "prob", "targets")]
    prepared = Prepared()
    initial = relation_scores(*inputs, prepared=prepared)
    found = detect_label_noise(*inputs, n_iter=3, initial=initial, prepared=prepared)
    assert len(searched) == 1
    detect_label_noise(*inputs, n_iter=3, chunk=7, prepared=prepared)  # cut in another way
    assert len(searched) == 2
    others = [values.flip(0) for values in inputs]
    again = detect_label_noise(*others, n_iter=3, prepared=prepared)
    assert len(searched) == 3
    torch.testing.assert_close(again.scores.flip(0), found.scores, rtol=1e-5, atol=1e-6)


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
