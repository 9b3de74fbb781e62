"""The published formulas over whole matrices, in float64: what everything must equal."""

import numpy as np


def dense_relation(features, probs=None, labels=None, target_features=None, target_probs=None,
                   target_labels=None, *, kernel="cos_p"):
    """r (N, M); without a target the set is related to itself."""
    if target_features is None:
        target_features, target_probs, target_labels = features, probs, labels
    k = np.maximum(0, _unit(features) @ _unit(target_features).T)
    if kernel == "cos_p":
        k = k * (_wide(probs) @ _wide(target_probs).T)
    if labels is None:
        return k
    return np.where(np.asarray(labels)[:, None] == np.asarray(target_labels)[None, :], k, -k)


def dense_sums(r, *, temperature=4, threshold=0.03):
    """Sum over columns of sign(r) |r|^temperature where |r| > threshold."""
    return np.where(np.abs(r) > threshold, np.sign(r) * np.abs(r) ** temperature, 0).sum(1)


def slack(r, *, temperature=4, threshold=0.03):
    """What edges within rounding of the threshold may add or take, per row."""
    return (np.abs(np.abs(r) - threshold) < 1e-6).sum(1) * threshold ** temperature


def assert_scores(actual, r, *, temperature=4, threshold=0.03, relative=1e-5):
    """Actual scores (N,) are the sums of r, to `relative` of the largest and the slack.

    And to the float32 rounding of the edges, which are larger than their sum where they cancel.
    """
    expected = dense_sums(r, temperature=temperature, threshold=threshold)
    edges = dense_sums(np.abs(r), temperature=temperature, threshold=threshold)
    bound = relative * np.abs(expected).max() + 5e-7 * edges + slack(
        r, temperature=temperature, threshold=threshold) + 1e-12
    assert (np.abs(_wide(actual) - expected) <= bound).all()


def _wide(array):
    return np.asarray(array.double() if hasattr(array, "double") else array, dtype=np.float64)


def _unit(features):
    features = _wide(features)
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)
