import cleanlab.filter
import numpy as np
import pytest
import torch
from cleanlab.rank import order_label_issues

import relation
from relation import find_label_issues

CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


@pytest.fixture
def unsure(clusters):
    """The clusters with probabilities that differ from row to row."""
    features, _, labels, is_noisy = clusters
    true = torch.arange(120) % 4
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.eye(4)[true] + torch.randn(120, 4, generator=generator)
    return features, torch.softmax(logits, 1), labels, is_noisy


def test_planted_labels_are_found(unsure):
    features, probs, labels, is_noisy = unsure
    mask = find_label_issues(labels, probs, features)
    assert isinstance(mask, np.ndarray) and mask.dtype == bool
    assert mask.tolist() == is_noisy.tolist()


@pytest.mark.parametrize("with_features", [True, False])
def test_one_import_line_changes(unsure, with_features):
    """A script's own line, with either function behind the name."""
    script = ("issues = find_label_issues(labels, pred_probs, "
              "return_indices_ranked_by='self_confidence', n_jobs=1)\n")
    features, probs, labels, is_noisy = unsure
    found = []
    for line in ("from cleanlab.filter import find_label_issues",
                 "from relation import find_label_issues"):
        names = {"labels": labels.numpy(), "pred_probs": probs.double().numpy()}
        code = script if not (with_features and "relation" in line) else \
            script.replace("pred_probs, ", "pred_probs, features, ")
        names["features"] = features.numpy()
        exec(line + "\n" + code, names)
        found.append(names["issues"])
    theirs, ours = found
    assert ours.dtype.kind == theirs.dtype.kind == "i"
    planted, both = set(np.flatnonzero(is_noisy)), set(ours) & set(theirs)
    for found in (set(ours), set(theirs)):  # each counts in its own way
        assert len(planted - found) <= 1 and len(found - planted) <= 3
    assert [row for row in ours if row in both] == [row for row in theirs if row in both]


@pytest.mark.parametrize("order", CLEANLAB)
def test_indices_are_ranked_as_cleanlab_ranks_them(unsure, order):
    features, probs, labels, _ = unsure
    mask = find_label_issues(labels, probs, features)
    indices = find_label_issues(labels, probs, features, return_indices_ranked_by=order)
    expected = order_label_issues(mask, labels.numpy(), probs.double().numpy(), rank_by=order)
    assert indices.tolist() == expected.tolist()


def test_the_order_of_auto_and_a_share_of_it(unsure):
    features, probs, labels, _ = unsure
    found = relation.auto_scores(features, probs, labels)
    indices = find_label_issues(labels, probs, features, return_indices_ranked_by="auto")
    assert (np.diff(found.scores[indices].numpy()) <= 0).all() and len(indices) == found.n_wrong
    half = find_label_issues(labels, probs, features, return_indices_ranked_by="auto",
                             frac_noise=0.5)
    assert half.tolist() == indices[:len(indices) // 2].tolist()


def test_numpy_torch_and_lists_are_one(unsure):
    features, probs, labels, _ = unsure
    expected = find_label_issues(labels, probs, features)
    assert (find_label_issues(labels.tolist(), probs.numpy(), features.numpy()) == expected).all()
    assert (find_label_issues(labels.numpy().astype(np.uint8), probs.tolist(), features)
            == expected).all()


@pytest.mark.parametrize("change, match", [
    ({"labels": ["a"] * 120}, "labels: expected whole numbers"),
    ({"labels": [0, 1]}, "pred_probs: expected 2 rows"),
    ({"labels": [4] * 120}, "labels: expected 0 to 3"),
    ({"labels": [-1] * 120}, "labels: expected 0 to 3"),
    ({"pred_probs": torch.ones(120)}, "pred_probs: expected shape"),
    ({"pred_probs": torch.full((120, 4), torch.nan)}, "pred_probs: expected finite"),
    ({"features": torch.ones(3, 2)}, "features: expected 120 rows"),
    ({"return_indices_ranked_by": "margin"}, "expected None or one of auto, self_confidence"),
    ({"frac_noise": 2}, "frac_noise: expected 0 to 1")])
def test_wrong_use(unsure, change, match):
    features, probs, labels, _ = unsure
    with pytest.raises(ValueError, match=match):
        find_label_issues(**{"labels": labels, "pred_probs": probs, "features": features} | change)


def test_cleanlab_takes_the_same_words():
    """What it calls them may change with its versions."""
    import inspect
    theirs = inspect.signature(cleanlab.filter.find_label_issues).parameters
    ours = set(inspect.signature(find_label_issues).parameters)
    assert ours - {"features"} <= set(theirs)
