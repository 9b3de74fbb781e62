import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from relation import (
    copy_rule,
    duplicates,
    find_duplicates,
    find_leakage,
    first_of_group,
    near_pairs,
    ordinary_neighbours,
)
from relation.near_pairs import NearPairs


def cosines_of(features, others):
    unit, other = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-300)
                   for x in (features.double(), others.double()))
    return unit @ other.T


def dense_groups(features, threshold):
    """Connected components by a search from every row."""
    near = cosines_of(features, features) > threshold
    same = (features[:, None] == features[None]).all(2)
    near |= same
    group, count = [-1] * len(features), 0
    for row in range(len(features)):
        if group[row] >= 0:
            continue
        reached, todo = {row}, [row]
        while todo:
            for other in near[todo.pop()].nonzero()[:, 0].tolist():
                if other not in reached:
                    reached.add(other)
                    todo.append(other)
        if len(reached) > 1:
            for other in reached:
                group[other] = count
            count += 1
    return group


def crowd(n=400, width=24, classes=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, width, generator=generator)
    return centres[torch.arange(n) % classes] + torch.randn(n, width, generator=generator)


def planted(n=1500, seed=0):
    """Rows in classes, with 5 exact copies (rows 0-4) and 5 near ones (5-9) of rows 100-109."""
    features = crowd(n, seed=seed)
    features[:5] = features[100:105]
    noise = torch.randn(5, features.shape[1], generator=torch.Generator().manual_seed(1))
    features[5:10] = 1.5 * (features[105:110] + 0.01 * noise)
    return features


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 90), width=st.integers(1, 12),
       spread=st.sampled_from([0.0, 0.02, 0.2, 1.0]), dtype=st.sampled_from([torch.float32,
                                                                            torch.float16]),
       threshold=st.sampled_from([0.3, 0.9, 0.98, 0.9999]))
def test_groups_are_those_of_the_dense_matrix(seed, n, width, spread, dtype, threshold):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, n // 5), width, generator=generator)
    features = centres[torch.randint(len(centres), (n,), generator=generator)]
    features = (features + spread * torch.randn(n, width, generator=generator)).to(dtype)
    features[torch.rand(n, generator=generator) < 0.05] = 0
    near = cosines_of(features, features)
    if ((near - threshold).abs() < 1e-9).any():
        return  # either is right
    found = find_duplicates(features, threshold=threshold)
    assert found.groups.tolist() == dense_groups(features, threshold)
    assert found.sizes.tolist() == found.groups[found.groups >= 0].bincount().tolist()


@pytest.mark.parametrize("bound", [0.0, 0.6, 0.85])
@pytest.mark.parametrize("within", [True, False])
def test_no_pair_is_missed(bound, within):
    features = crowd(700)
    others = features if within else crowd(300, seed=0)[::3] + 0.05
    found = {(int(a), int(b)) for i, j, _ in
             NearPairs(features, None if within else others, bound=bound).above(bound)
             for a, b in zip(i, j)}
    expected = (cosines_of(features, others) > bound).nonzero().tolist()
    expected = {(a, b) for a, b in expected if not within or a < b}
    ordered = {(min(pair), max(pair)) for pair in found} if within else found
    assert len(ordered) == len(found)  # each once
    extra = ordered - expected
    assert expected <= ordered and len(expected) > 0
    assert all(cosines_of(features[[a]], others[[b]]) > bound - 1e-3 for a, b in extra)


def test_almost_all_pairs_are_discarded_unseen(monkeypatch):
    features, compared = crowd(3000, classes=40), []
    whole = near_pairs.unit_rows
    pairs = NearPairs(features, bound=0.98)
    monkeypatch.setattr(near_pairs, "unit_rows", lambda x: compared.append(len(x)) or whole(x))
    list(pairs.above(0.98))
    assert sum(a * b for a, b in zip(compared[::2], compared[1::2])) < 3000**2 / 20


@pytest.mark.parametrize("threshold", [0.9, 0.95, "auto"])
def test_order_and_tiles_change_nothing(monkeypatch, threshold):
    features = planted()
    expected = find_duplicates(features, threshold=threshold)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(3))
    shuffled = find_duplicates(features[order], threshold=threshold)
    monkeypatch.setattr(near_pairs, "TILE", 37)
    monkeypatch.setattr(near_pairs, "BLOCK", 101)
    monkeypatch.setattr(near_pairs, "SPARSE", 1)
    monkeypatch.setattr(duplicates, "PAIRS", 3)
    cut = find_duplicates(features, threshold=threshold)
    assert cut.groups.tolist() == expected.groups.tolist() and cut.threshold == expected.threshold
    assert shuffled.threshold == expected.threshold
    together = expected.groups[order][:, None] == expected.groups[order]
    assert torch.equal((shuffled.groups[:, None] == shuffled.groups), together)


def test_planted_copies_are_found_unasked():
    found = find_duplicates(planted())
    assert found.threshold is not None and 0.95 <= found.threshold < 1
    assert found.sizes.tolist() == [2] * 10
    assert found.groups[:10].tolist() == found.groups[100:110].tolist() == list(range(10))
    assert found.is_exact.nonzero()[:, 0].tolist() == [*range(5), *range(100, 105)]
    exact = find_duplicates(planted(), threshold=None)
    assert exact.threshold is None and (exact.groups[5:10] == -1).all()
    assert exact.sizes.tolist() == [2] * 5


@pytest.mark.parametrize("width, classes", [(2, 1), (3, 4), (8, 1), (24, 8), (200, 10)])
def test_no_threshold_where_distances_have_one_mode(width, classes):
    for seed in range(2):
        features = crowd(1200, width=width, classes=classes, seed=seed)
        # In three dimensions one pair of 1,200 rows may lie close by chance.
        assert len(find_duplicates(features).sizes) <= (width < 4)


def test_copies_are_found_at_every_norm():
    """Noise of one size is far, as angles go, from a row of small norm."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 24, generator=generator) * 4 * torch.arange(8.0)[:, None]
    rows = centres[torch.arange(800) % 8] + torch.randn(800, 24, generator=generator)
    copies = rows[::39][:20] + 0.15 * torch.randn(20, 24, generator=generator)
    features = torch.cat([rows, copies])
    found = find_duplicates(features)
    near = torch.cdist(features.double(), features.double()) < found.radius
    cosines = cosines_of(features, features)
    near = (near & (cosines > 0.95)) | (cosines > found.threshold)
    assert found.sizes.sum() == (near.sum(1) > 1).sum()
    assert (found.groups[800:] >= 0).all()
    assert (found.groups[800:] == found.groups[:800:39][:20]).all()
    assert len(found.sizes) <= 22
    by_cosine = find_duplicates(features, threshold=found.threshold).groups
    assert 0 < (by_cosine[800:] >= 0).sum() < 20


@pytest.mark.parametrize("expected, near, in_pairs, claimed", [
    (0.018, 2, True, True), (0.025, 2, True, False),  # one pair by chance: half as many as rows
    (0.28, 4, True, True), (0.31, 4, True, False),
    (33.2, 100, True, True), (33.4, 100, True, False),  # then a third
    (0.009, 1, False, True), (0.011, 1, False, False)])  # test rows near training rows
def test_few_rows_are_claimed_where_chance_brings_none(expected, near, in_pairs, claimed):
    nearest = torch.full((1000,), 2.0, dtype=torch.float64)
    nearest[:near] = 0.5
    share = torch.tensor([expected / 1000], dtype=torch.float64)
    ordinary = ordinary_neighbours.Ordinary(torch.ones(1, dtype=torch.float64), share,
                                            in_pairs)
    assert ordinary.radius(nearest) == (1.0 if claimed else None)


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (1000.0, 1.0), (0.0, 1e30)])
def test_distances_to_neighbours_are_those_of_the_formula(monkeypatch, shift, scale):
    monkeypatch.setattr(ordinary_neighbours, "BLOCK", 7)
    features = scale * (crowd(100) + shift)
    x = features.double()
    unit, plain = ordinary_neighbours._to_neighbours(features[:20], features,
                                                     float(x.norm(dim=1).max()), True)
    for found, rows in ((unit, x / x.norm(dim=1, keepdim=True)), (plain / scale, x / scale)):
        expected = torch.cdist(rows[:20], rows).sort(1).values[:, 1:11]
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)


def test_rows_that_differ_in_one_column_are_no_copies(monkeypatch):
    """Half of the rows lie on twelve lines, the others in eight dimensions."""
    generator = torch.Generator().manual_seed(0)
    scattered = 3 * torch.randn(600, 8, generator=generator)
    ends = torch.randn(12, 8, generator=generator)
    lined = 3 * ends[torch.arange(600) % 12]
    lined[:, 0] += 2 * torch.rand(600, generator=generator)
    features = torch.cat([scattered, lined])
    assert len(find_duplicates(features).sizes) == 0
    monkeypatch.setattr(ordinary_neighbours, "ALIKE", 10**6)  # all in as many dimensions
    assert len(find_duplicates(features).sizes) > 50


def test_the_radius_lies_where_copies_end():
    features = planted()
    near = find_duplicates(features)
    features[5:10] += 1e-3  # nearly as before
    assert find_duplicates(features).radius == near.radius
    least = cosines_of(features[5:10], features[105:110]).diagonal().min()
    assert near.threshold < least < 1 - (1 - near.threshold) / 2


def test_many_rows_are_measured_among_some_of_them(monkeypatch):
    monkeypatch.setattr(ordinary_neighbours, "DENSE", 1100)
    monkeypatch.setattr(ordinary_neighbours, "FEW", 1000)
    monkeypatch.setattr(copy_rule, "HELD", 3)  # found a second time
    found = find_duplicates(planted())
    assert 0.98 <= found.threshold < 1 and found.sizes.tolist() == [2] * 10


def test_no_threshold_for_real_digits_until_some_are_copied():
    digits = torch.from_numpy(load_digits().data).float()
    assert len(find_duplicates(digits).sizes) == 0
    jitter = torch.rand(20, 64, generator=torch.Generator().manual_seed(0)) * 0.5
    found = find_duplicates(torch.cat([digits, digits[::80][:20] + jitter]))
    assert found.threshold is not None
    assert (found.groups[-20:] == found.groups[:-20][::80][:20]).all()
    assert len(found.sizes) <= 21  # two digits are that near


def test_conflicts_are_groups_of_several_labels():
    features = torch.eye(6)[[0, 1, 0, 1, 2, 3, 2]]
    found = find_duplicates(features)
    assert found.groups.tolist() == [0, 1, 0, 1, 2, -1, 2]
    assert found.conflicts(torch.tensor([5, 6, 5, 7, 0, 9, 1])).tolist() == [1, 2]
    assert found.conflicts(torch.zeros(7)).tolist() == []
    assert find_duplicates(torch.eye(3)).conflicts(torch.arange(3)).tolist() == []


def test_a_copied_row_counts_once():
    groups = torch.tensor([0, -1, 0, 1, 1, 0, -1])
    assert first_of_group(groups).tolist() == [0, 1, 0, 3, 3, 0, 6]
    labels = torch.tensor([4, 9, 4, 7, 8, 2, 9])
    assert first_of_group(groups, labels).tolist() == [0, 1, 0, 3, 4, 5, 6]
    assert first_of_group(groups[:0]).tolist() == []


@pytest.mark.parametrize("threshold", [0.98, "auto"])
def test_leaked_rows_and_their_origin(threshold):
    train = crowd(1900)[:1500]
    test = crowd(1900)[1500:]
    test[:3] = train[[7, 8, 9]]
    noise = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    test[3:6] = 2 * train[[10, 11, 12]] + 0.01 * noise
    found = find_leakage(train, test, threshold=threshold)
    assert found.rows[:6].tolist() == [7, 8, 9, 10, 11, 12]
    assert found.is_exact.nonzero()[:, 0].tolist() == [0, 1, 2]
    assert (found.rows[6:] == -1).all() and (found.cosines[6:] == 0).all()
    assert (found.cosines[:3] == 1).all() and (found.cosines[3:6] > 0.98).all()


def test_leakage_is_that_of_the_dense_matrix(monkeypatch):
    train, test = crowd(500), crowd(200, seed=0) + 0.3
    monkeypatch.setattr(duplicates, "PAIRS", 7)
    found = find_leakage(train, test, threshold=0.99)
    best, at = cosines_of(test, train).max(1)
    assert 0 < (best > 0.99).sum() < len(test)
    assert found.rows.tolist() == torch.where(best > 0.99, at, -1).tolist()
    np.testing.assert_allclose(found.cosines, torch.where(best > 0.99, best, 0), atol=1e-12)
    assert (find_leakage(train, test, threshold=None).rows == -1).all()


def test_many_copies_of_one_row_and_rows_without_a_direction():
    features = torch.cat([torch.zeros(3, 4), torch.ones(2000, 4), torch.eye(4)])
    assert find_duplicates(features, threshold=0.99).sizes.tolist() == [3, 2000]
    near = torch.ones(2000, 4) + 1e-3 * torch.randn(2000, 4,
                                                    generator=torch.Generator().manual_seed(0))
    assert find_duplicates(near, threshold=0.99).sizes.tolist() == [2000]
    assert len(find_duplicates(torch.ones(1, 4)).sizes) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_near_is_claimed_beside_rows_that_are_not_finite(value):
    features = planted()
    features[50, 3] = value
    found = find_duplicates(features)
    assert found.threshold is None and found.radius is None and found.sizes.tolist() == [2] * 5


@pytest.mark.parametrize("call, match", [
    (lambda x: find_duplicates(x.long()), "features: expected floats"),
    (lambda x: find_duplicates(x[0]), "features: expected floats of shape"),
    (lambda x: find_duplicates(x[:0]), "at least one row"),
    (lambda x: find_duplicates(x, threshold=1.0), "threshold: expected a cosine"),
    (lambda x: find_duplicates(x, threshold="much"), "threshold: expected a cosine"),
    (lambda x: find_leakage(x, x[:, :2]), "features have 24 columns, test_features 2"),
    (lambda x: find_leakage(x, x.half()), "features of one kind"),
    (lambda x: find_leakage(x, x[:0]), "test_features: expected at least one row")])
def test_wrong_use(call, match):
    with pytest.raises(ValueError, match=match):
        call(crowd(20))


def test_rows_of_the_same_content_are_copies_whatever_their_features():
    features = torch.eye(7)[[0, 1, 0, 1, 2, 3, 4]]
    contents = torch.tensor([5, 6, 7, 5, 8, 9, 9])  # 0 and 3 join the exact copies of both
    found = find_duplicates(features, contents=contents)
    assert found.groups.tolist() == [0, 0, 0, 0, -1, 1, 1]
    assert found.is_exact.tolist() == [True] * 4 + [False] + [True] * 2
    with pytest.raises(ValueError, match=r"contents: expected shape \(7,\)"):
        find_duplicates(features, contents=contents[:3])


def test_no_copy_of_the_features_is_made(monkeypatch):
    """Every read is of a block, or of few rows: features may be larger than memory."""
    features, read = planted(6000), []
    whole = near_pairs.Picked.__getitem__
    monkeypatch.setattr(near_pairs.Picked, "__getitem__", lambda self, which: (
        read.append(len(found := whole(self, which))) or found))
    monkeypatch.setattr(near_pairs, "SAMPLE", 512)
    monkeypatch.setattr(near_pairs, "BLOCK", 512)
    monkeypatch.setattr(duplicates, "PAIRS", 512)
    monkeypatch.setattr(ordinary_neighbours, "BLOCK", 512)
    assert find_duplicates(features).threshold is not None
    assert find_leakage(features[:5000], features[5000:]).threshold is None
    assert sum(read) > 6000 and max(read) <= 1024
