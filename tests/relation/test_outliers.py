"""Outliers of a set, planted among real digits and Gaussian classes."""

import pytest
import torch
from sklearn.datasets import load_digits

from relation import Outputs, find_outliers, leave_one_out_probs, near_pairs, outliers


def digits(odd=0, seed=0):
    """Outputs of 1,797 digits, the first `odd` of which are noise; and which these are."""
    data = load_digits()
    features, labels = torch.from_numpy(data.data).float(), torch.from_numpy(data.target)
    generator = torch.Generator().manual_seed(seed)
    features[:odd] = 16 * torch.rand(odd, 64, generator=generator)
    return (Outputs(features, leave_one_out_probs(features, labels, 10), labels),
            torch.arange(len(labels)) < odd)


@pytest.mark.parametrize("odd", [0, 9, 90, 180])
def test_planted_outliers_are_found_at_the_stated_rate(odd):
    rows, is_odd = digits(odd)
    found = find_outliers(rows)
    assert found.is_outlier[is_odd].all()
    assert found.is_outlier[~is_odd].double().mean() < 0.02
    assert torch.equal(found.is_outlier, found.scores > found.threshold)


def test_a_smaller_rate_calls_fewer_rows_outliers():
    rows, _ = digits()
    counts = [int(find_outliers(rows, rate=rate).is_outlier.sum()) for rate in (0.1, 0.03, 0.001)]
    assert counts[0] > counts[1] > counts[2]


def test_order_and_blocks_change_nothing(monkeypatch):
    rows, _ = digits(30)
    rows = rows.take(slice(0, 500))
    expected = find_outliers(rows)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    shuffled = find_outliers(rows.take(order))
    torch.testing.assert_close(shuffled.scores, expected.scores[order], rtol=1e-4, atol=1e-4)
    assert torch.equal(shuffled.is_outlier, expected.is_outlier[order])
    read = []
    whole = near_pairs.Picked.__getitem__
    monkeypatch.setattr(near_pairs.Picked, "__getitem__", lambda self, which: (
        read.append(len(found := whole(self, which))) or found))
    monkeypatch.setattr(outliers, "JUDGED", 37)
    assert torch.equal(find_outliers(rows).is_outlier, expected.is_outlier)
    assert max(read) <= 400  # the core


@pytest.mark.parametrize("n", [1, 2, 5, 29])
def test_few_rows_hold_no_outlier(n):
    features = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    features[0] *= 1000
    found = find_outliers(Outputs(features, torch.full((n, 2), 0.5), torch.zeros(n).long()))
    assert found.scores.isfinite().all() and not found.is_outlier.any()


def test_rows_that_are_all_the_same():
    same = Outputs(torch.ones(100, 4), torch.ones(100, 1), torch.zeros(100).long())
    found = find_outliers(same)
    assert found.scores.isfinite().all() and not found.is_outlier.any()


@pytest.mark.parametrize("rate", [0.0, 0.5, -1, float("nan")])
def test_wrong_rate(rate):
    with pytest.raises(ValueError, match="rate: expected a share above 0"):
        find_outliers(digits()[0], rate=rate)


def test_rows_beyond_those_of_the_fit_are_judged_too(monkeypatch):
    rows, is_odd = digits(18)
    monkeypatch.setattr(outliers, "FITTED", 900)
    monkeypatch.setattr(outliers, "COMPARED", 400 * 1797)
    monkeypatch.setattr(outliers, "FEWEST_REFERENCES", 300)
    found = find_outliers(rows)
    assert found.is_outlier[is_odd].all() and found.is_outlier[~is_odd].double().mean() < 0.04


def test_copies_count_once_and_get_what_the_first_one_gets():
    rows, _ = digits()
    rows = rows.take(slice(0, 300))
    copied = torch.cat([torch.arange(300), torch.tensor([5, 5, 9])])
    found, single = find_outliers(rows.take(copied), first_copy=copied), find_outliers(rows)
    assert torch.equal(found.scores, single.scores[copied])
    assert found.threshold == single.threshold


@pytest.mark.parametrize("heavy", [0.0, 0.3])
def test_what_a_tail_goes_on_to(heavy):
    """Of quantiles that are exactly exponential, or Pareto's."""
    shares = (torch.arange(20_000, 0, -1) - 0.5).double() / 20_000
    halvings = (0.5 / shares).log()
    x = halvings if heavy == 0 else torch.expm1(heavy * halvings) / heavy
    for rate in (0.05, 0.001):
        assert float((x > outliers._exceeded_by(x, rate)).double().mean()) == pytest.approx(
            rate, rel=0.05)
    assert outliers._exceeded_by(torch.ones(100), 0.01) == 1
