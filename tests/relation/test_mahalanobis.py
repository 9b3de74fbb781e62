"""Mahalanobis against the inverse of each covariance, with bounds and without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relation import mahalanobis as module
from relation.mahalanobis import mahalanobis

shapes = st.tuples(st.integers(1, 12), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5),
                   st.integers(0, 2**32))


def plain(features, target, labels):
    best = torch.full((len(features),), float("inf"), dtype=torch.float64)
    for c in labels.unique():
        rows = target[labels == c].double()
        covariance = torch.cov(rows.T, correction=0).reshape(rows.shape[1], -1)
        covariance = covariance + 1e-3 * torch.eye(len(covariance))
        centred = features.double() - rows.mean(0)
        best = best.minimum((centred @ covariance.inverse() * centred).sum(1))
    return best.float()


def draw(n, m, *, dim, classes=12, offset=0.0, seed=0):
    """Test rows of the classes and between two of them, training rows, labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(dim, dim, generator=generator)  # of every class: far from round
    centres = 4 * torch.randn(classes, dim, generator=generator)

    def rows(count):
        return centres[torch.arange(count) % classes] + offset \
            + torch.randn(count, dim, generator=generator) @ shape

    test = rows(n)
    test[n // 2:] = (test[n // 2:] + test[n // 2:].roll(1, 0)) / 2
    return test, rows(m), torch.arange(m) % classes


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_mahalanobis_against_the_inverse(shape):
    n, m, dim, classes, seed = shape
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, dim, generator=generator)
    target = torch.randn(m, dim, generator=generator)
    labels = torch.randint(classes, (m,), generator=generator)
    torch.testing.assert_close(mahalanobis(features, target, labels),
                               plain(features, target, labels), rtol=1e-4, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 24), st.sampled_from([2, 40]), st.sampled_from([0.0, 1000.0]),
       st.integers(0, 2**32))
def test_the_bounds_hide_no_nearest_class(dim, each, offset, seed):
    """Of classes with fewer rows than half the features, and with more."""
    n = module.PAYS * (each + dim) + 1
    features, target, labels = draw(n, 12 * each, dim=dim, offset=offset, seed=seed)
    torch.testing.assert_close(mahalanobis(features, target, labels),
                               plain(features, target, labels), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("each", [12, 200])
def test_a_bound_never_exceeds_the_distance_and_most_rows_need_none(each):
    features, target, labels = draw(900, 12 * each, dim=48)
    centre, spread = features.mean(0), module._spread(features, features.device)
    members = (labels == 0).nonzero()[:, 0]
    found = module._fit(target, members, target[members].double().mean(0), spread, centre)
    x, distance = features - centre, torch.full((900,), torch.inf, dtype=torch.float64)
    module._visit(found, features, torch.arange(900), distance)
    assert len(module._left(found.bound, x, distance)) == 900
    best = mahalanobis(features, target, labels).double()
    left = module._left(found.bound, x, best * 1.001)
    assert set((distance <= best * 1.001).nonzero()[:, 0].tolist()) <= set(left.tolist())
    assert 30 < len(left) < 300


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 3e38, 1e25, 0.0])
def test_an_odd_row_is_computed_and_leaves_the_others_alone(odd):
    features, target, labels = draw(400, 300, dim=10)
    expected = mahalanobis(features, target, labels)
    features[7] = odd
    found = mahalanobis(features, target, labels)
    alone = mahalanobis(features[7:8], target, labels)  # one row alone is done without bounds
    torch.testing.assert_close(found[7:8], alone, equal_nan=True)
    others = torch.arange(400) != 7
    torch.testing.assert_close(found[others], expected[others])


@pytest.mark.parametrize("scale", [1e-20, 1e6, 1e15])
def test_mahalanobis_of_extreme_features_is_finite(scale):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(30, 8, generator=generator) * scale
    far = target[:4] + 100 * scale
    labels = torch.arange(30) % 6  # fewer rows than features: every covariance is singular
    near, away = (mahalanobis(f, target, labels) for f in (target[:4], far))
    assert near.isfinite().all() and away.isfinite().all()
    assert scale < 1 or (away > near).all()


def test_mahalanobis_leaves_features_of_float64_as_they_are():
    features = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = features.clone()
    mahalanobis(features, features, torch.arange(20) % 2)
    assert torch.equal(features, before)
