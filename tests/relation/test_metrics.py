import numpy as np
import pytest

from relation import evaluate
from relation.metrics import accept_threshold


def test_tnr95_and_fpr95_are_not_each_other():
    """20 negatives 0..19; one of 20 positives lies low, one negative lies among the positives."""
    scores = np.r_[np.arange(20), -1, np.arange(18.5, 37)]
    is_positive = np.r_[np.zeros(20), np.ones(20)].astype(bool)
    metrics = evaluate(scores, is_positive)
    assert metrics.tnr95 == pytest.approx(19 / 20)  # threshold 18.5 finds 19 of 20 positives
    assert metrics.fpr95 == pytest.approx(1 / 20)  # threshold 18 accepts 19 of 20 negatives
    assert accept_threshold(scores[~is_positive]) == 18


def test_perfect_and_reversed():
    is_positive = np.arange(100) >= 90
    assert evaluate(np.arange(100), is_positive) == pytest.approx((1, 1, 1, 0))
    reversed_ = evaluate(-np.arange(100), is_positive)
    assert reversed_.auroc == 0 and reversed_.tnr95 == 0 and reversed_.fpr95 == 1


@pytest.mark.parametrize("is_positive", [np.zeros(3, bool), np.ones(3, bool)])
def test_one_class_is_refused(is_positive):
    with pytest.raises(ValueError, match="expected positives and negatives, got"):
        evaluate(np.arange(3), is_positive)
