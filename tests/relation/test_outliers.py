"""Outliers of a set, planted among real digits and Gaussian classes."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from relation import (
    Outputs,
    find_outliers,
    gaussian,
    leave_one_out_probs,
    near_pairs,
    ood_witnesses,
    outliers,
    references,
    sampling,
)


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
    assert found.is_outlier[is_odd].sum() >= 0.99 * odd
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
    monkeypatch.setattr(outliers, "JUDGED", 37)
    monkeypatch.setattr(outliers, "WINDOW", 200)
    assert torch.equal(find_outliers(rows).is_outlier, expected.is_outlier)


def test_order_changes_nothing_where_rows_are_sampled(monkeypatch):
    rows, _ = digits(30)
    monkeypatch.setattr(outliers, "FITTED", 900)
    monkeypatch.setattr(references, "REFERENCES", 400)
    monkeypatch.setattr(references, "OF_A_CLASS", 30)
    expected = find_outliers(rows)
    order = torch.randperm(len(rows.features), generator=torch.Generator().manual_seed(1))
    shuffled = find_outliers(rows.take(order))
    torch.testing.assert_close(shuffled.scores, expected.scores[order], rtol=1e-3, atol=1e-3)


def test_only_few_rows_are_read_at_a_time(monkeypatch):
    rows, read = digits(30)[0], []
    whole = near_pairs.Picked.__getitem__
    monkeypatch.setattr(near_pairs.Picked, "__getitem__", lambda self, which: (
        read.append(len(found := whole(self, which))) or found))
    monkeypatch.setattr(outliers, "FITTED", 400)
    for module, name in ((outliers, "JUDGED"), (ood_witnesses, "BLOCK"), (gaussian, "BLOCK"),
                         (sampling, "BLOCK"), (references, "BLOCK")):
        monkeypatch.setattr(module, name, 37)
    find_outliers(rows)
    assert sum(read) > 400 and max(read) == 37


def test_the_score_is_that_of_the_formula():
    rows, _ = digits(30)
    rows = rows.take(slice(0, 300))
    fitted = ood_witnesses.fit_witnesses(rows, with_energy=False, device=torch.device("cpu"))
    doubt, *distances, related, far = fitted.without(torch.arange(300)).numpy()
    surprise = []
    for x in (*distances, related, np.sqrt(far), np.sqrt(doubt)):
        middle, step, k = tail(x, 1.0)
        shares = (np.array([(x > v).sum() + (x == v).sum() / 2 for v in x]) + 0.5) / 301
        halvings = (np.maximum(x - middle, 0) / step) ** (1 / k)
        surprise.append(np.where(x > middle, np.log(2) * (1 + halvings), -np.log(shares)))
    surprise[3] = np.minimum(surprise[3], np.delete(surprise, 3, axis=0).max(0))  # the relation
    expected = np.sort(surprise, axis=0)[-2:].mean(0)
    found = find_outliers(rows)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    middle, step, k = tail(expected, 1.2)
    assert found.threshold == pytest.approx(middle + step * np.log2(0.5 / 0.01) ** k)


def tail(x, heaviest):
    """q50, q75 - q50 and k of the values."""
    last = len(x) - 1
    middle, quarter, eighth = np.sort(x)[[int(at * last) for at in (0.5, 0.75, 0.875)]]
    k = np.log2((eighth - middle) / (quarter - middle))
    return middle, quarter - middle, np.clip(k, 0.7, heaviest)


@pytest.mark.parametrize("distribution, called", [
    (torch.randn, 0.005), (lambda n: -torch.rand(n).log(), 0.01),  # a tail of Gauss, exponential
    (lambda n: torch.randn(n).exp(), 0.0175)])
def test_tails_go_on_as_they_begin(distribution, called):
    torch.manual_seed(0)
    x = distribution(100_000).double()
    tail = outliers._BentTail.of(x.sort().values, 1.2)
    above = (x > tail.begin + tail.step * np.log2(50) ** tail.k).double().mean()
    assert float(above) == pytest.approx(called, abs=0.002)


def test_a_memorised_wrong_label_makes_no_outlier():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(600) % 6
    features = 10 * torch.eye(6, 16)[truth] + torch.randn(600, 16, generator=generator)
    labels = truth.clone()
    labels[:60] = (labels[:60] + 1) % 6
    found = find_outliers(Outputs(features, (12 * torch.eye(6)[labels]).softmax(1), labels))
    assert found.is_outlier[:60].double().mean() < 0.05


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
    monkeypatch.setattr(references, "REFERENCES", 300)
    monkeypatch.setattr(references, "OF_A_CLASS", 30)
    found = find_outliers(rows)
    assert found.is_outlier[is_odd].all() and found.is_outlier[~is_odd].double().mean() < 0.04


def test_copies_count_once_and_get_what_the_first_one_gets():
    rows, _ = digits()
    rows = rows.take(slice(0, 300))
    copied = torch.cat([torch.arange(300), torch.tensor([5, 5, 9])])
    found, single = find_outliers(rows.take(copied), first_copy=copied), find_outliers(rows)
    assert torch.equal(found.scores, single.scores[copied])
    assert found.threshold == single.threshold


