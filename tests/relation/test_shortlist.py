import numpy as np
import pytest
import torch

from relation import evaluate, fit_leave_one_out, leave_one_out, shortlist
from relation.leave_one_out import fit_roughly
from relation.shortlist import first_distinct, make_shortlist, products_at


@pytest.fixture
def many():
    """features (3000, 20), flat probs, labels of 12 classes of which 300 are wrong, is_noisy."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 12, (3000,), generator=generator)
    features = torch.randn(12, 20, generator=generator)[true] \
        + 0.7 * torch.randn(3000, 20, generator=generator)
    labels = true.clone()
    labels[:300] = (labels[:300] + 1) % 12
    return features, torch.full((3000, 12), 1 / 12), labels, labels != true


def test_in_all_directions_it_is_leave_one_out(many):
    features, probs, labels, _ = many
    fit = fit_leave_one_out(features, labels, 12)
    short = make_shortlist(fit, probs)
    log_probs = torch.cat([block for _, block in fit.blocks()])
    np.testing.assert_array_equal(short.slots[:, 0], labels)
    # All that is left out is the division by 1 - h: h is about 21 / 3000.
    np.testing.assert_allclose(short.loo, log_probs.gather(1, short.slots).exp(), atol=0.01)
    x = fit.rows.inputs(slice(None))
    h = (x @ fit.root).square().sum(1)
    np.testing.assert_allclose(short.leverage, h, rtol=0.02)
    again = fit.refit((torch.arange(3000) >= 300).double())
    log_probs = torch.cat([block for _, block in again.blocks()])
    # What is left for the eight other classes is kept from the first fit.
    np.testing.assert_allclose(short.again(again), log_probs.gather(1, short.slots).exp(),
                               atol=0.05)


def test_in_few_directions_the_classes_asked_about_compare_as_in_all(monkeypatch, many):
    features, probs, labels, _ = many
    fit = fit_leave_one_out(features, labels, 12)
    every = make_shortlist(fit, probs)
    monkeypatch.setattr(shortlist, "DIRECTIONS_OF_MANY", 4)
    few = make_shortlist(fit, probs)
    assert few.close.shape == (3000, 4)
    assert (few.slots[:, :2] == every.slots[:, :2]).double().mean() > 0.9
    assert few.leverage.mean() == pytest.approx(float(every.leverage.mean()), rel=1e-3)
    same = (few.slots == every.slots).all(1)
    odds, expected = ((found.loo[same].log()[:, 1:] - found.loo[same].log()[:, :1])
                      for found in (few, every))
    # What differs is h alone: its share of the directions that are left out is the mean row's.
    assert same.double().mean() > 0.5
    np.testing.assert_allclose(odds, expected, atol=0.3)


@pytest.mark.parametrize("rows", [7, 10**6])
def test_the_rows_at_a_time_change_nothing(monkeypatch, many, rows):
    fit = fit_leave_one_out(many[0][:500], many[2][:500], 12)
    expected = make_shortlist(fit, many[1][:500])
    monkeypatch.setattr(shortlist, "ROWS", rows)
    found = make_shortlist(fit, many[1][:500])
    np.testing.assert_allclose(found.loo, expected.loo, atol=1e-6)
    np.testing.assert_allclose(found.rest, expected.rest, atol=1e-5)


def test_a_rough_fit_finds_the_same(monkeypatch, many):
    features, probs, labels, is_noisy = many
    monkeypatch.setattr(leave_one_out, "EXACT", 0)  # float32, as in all sets that are large
    monkeypatch.setattr(leave_one_out, "GRAM_ROWS", 1300)  # 64 for each of the 20 features
    fit = fit_roughly(features, labels, 12)
    drawn = fit.rows.drawn(slice(None))
    assert drawn.sum() == pytest.approx(1300, rel=0.1)
    found, exact = (make_shortlist(of, probs) for of in
                    (fit, fit_leave_one_out(features, labels, 12)))
    ap, expected = (evaluate(1 - of.loo[:, 0].numpy(), is_noisy.numpy()).ap
                    for of in (found, exact))
    assert ap > expected - 0.01
    # A refit that leaves out nothing is the fit; rows are drawn wherever they stand.
    again = fit.refit(torch.ones(3000, dtype=torch.float64))
    np.testing.assert_allclose(found.again(again), found.loo, atol=1e-6)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    other = fit_roughly(features[order], labels[order], 12)
    assert torch.equal(other.rows.drawn(slice(None)), drawn[order])
    np.testing.assert_allclose(other.gram, fit.gram, atol=1e-3)


def test_the_first_distinct_classes_in_order():
    likely = torch.tensor([[2, 0, 2, 1], [1, 1, 1, 0]])
    found, place = first_distinct(likely, 3)
    assert found.tolist() == [[2, 0, 1], [1, 0, -1]] and place[0].tolist() == [0, 1, 3]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor")
@pytest.mark.parametrize("columns", [6, 200])  # a whole product, and only what is asked for
def test_products_at_some_columns(columns):
    generator = torch.Generator().manual_seed(0)
    x, weights = (torch.randn(*shape, generator=generator) for shape in ((50, 9), (9, columns)))
    asked = torch.randint(0, columns, (50, 4), generator=generator)
    asked[:, 1] = asked[:, 0]
    np.testing.assert_allclose(products_at(x, weights, asked), (x @ weights).gather(1, asked),
                               atol=1e-5)
