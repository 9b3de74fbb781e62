import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relation import KERNELS, relation_scores, relation_topk
from relation.blocks import inverse_norms, products
from relation.pruning import find_peaks, order_rows, rounding_margin
from tests.dense import assert_scores, dense_relation

CHUNKS = (1, 7, 250, 600, 10**9)


def inputs(golden):
    return [torch.from_numpy(golden[name]) for name in ("feat", "prob", "targets")]


def assert_golden(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("temperature", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("kernel", KERNELS)
def test_golden_scores(golden, kernel, temperature, chunk):
    scores = relation_scores(*inputs(golden), kernel=kernel, temperature=temperature, chunk=chunk)
    assert scores.dtype == torch.float32
    assert_golden(scores, golden[f"score/{kernel}/pow{temperature}"])


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_golden_topk(golden, kernel, chunk):
    found = relation_topk(*inputs(golden), kernel=kernel, k=10, chunk=chunk)
    r = dense_relation(*inputs(golden), kernel=kernel)
    for values, indices, name in (found[:2] + ("top",), found[2:] + ("low",)):
        expected = golden[f"topk10/{kernel}/{name}_val"]
        assert_golden(values, expected)
        np.testing.assert_allclose(np.take_along_axis(r, indices.numpy(), 1), values, atol=1e-6)
        # Neighbours may swap places only where their relations are equal up to rounding.
        same = indices.numpy() == golden[f"topk10/{kernel}/{name}"]
        gaps = np.abs(np.diff(expected, axis=1)) < 1e-6
        tied = np.pad(gaps, ((0, 0), (1, 1)), constant_values=True)
        assert (same | tied[:, 1:] | tied[:, :-1]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_golden_asymmetric(golden, kernel):
    features, probs, labels = inputs(golden)
    few, rest = slice(0, 150), slice(150, None)
    pair = dict(target_features=features[rest], target_probs=probs[rest], kernel=kernel, chunk=64)
    assert_golden(relation_scores(features[few], probs[few], labels[few],
                                  target_labels=labels[rest], **pair),
                  golden[f"asymmetric/{kernel}/pow4"])
    assert_golden(relation_scores(features[few], probs[few], **pair),
                  golden[f"unlabelled/{kernel}/pow4"])


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 80), m=st.integers(0, 40), dim=st.integers(1, 9),
       classes=st.integers(1, 60), sharpness=st.sampled_from([0.1, 1.0, 5.0, 30.0]),
       temperature=st.sampled_from([1, 1.5, 4]), threshold=st.sampled_from([0.0, 0.03, 0.9]),
       kernel=st.sampled_from(KERNELS), labelled=st.booleans(), chunk=st.integers(1, 50),
       seed=st.integers(0, 10**6))
def test_equals_dense_formula(n, m, dim, classes, sharpness, temperature, threshold, kernel,
                              labelled, chunk, seed):
    """Random sets with a zero row and a duplicate; m = 0 relates the set to itself."""
    generator = torch.Generator().manual_seed(seed)

    def rows(count):
        features = torch.randn(count, dim, generator=generator) + 0.5
        features[0] = 0
        features[-1] = features[count // 2]
        logits = sharpness * torch.randn(count, classes, generator=generator)
        labels = torch.randint(0, classes, (count,), generator=generator) if labelled else None
        return features, torch.softmax(logits, 1), labels

    source = rows(n)
    target = dict(zip(("target_features", "target_probs", "target_labels"), rows(m))) if m else {}
    scores = relation_scores(*source, **target, kernel=kernel, temperature=temperature,
                             threshold=threshold, chunk=chunk)
    assert_scores(scores, dense_relation(*source, **target, kernel=kernel),
                  temperature=temperature, threshold=threshold)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_dense_formula_on_the_rounded_inputs(golden, dtype):
    features, probs, labels = inputs(golden)
    features, probs = features.to(dtype), probs.to(dtype)
    for temperature in (1, 4):
        scores = relation_scores(features, probs, labels, temperature=temperature)
        assert scores.dtype == torch.float32
        assert_scores(scores, dense_relation(features, probs, labels), temperature=temperature)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e-42])
def test_scale_of_a_feature_changes_nothing(clusters, size):
    features, probs, labels, _ = clusters
    expected = relation_scores(features, probs, labels)
    scaled = features.clone()
    scaled[3] *= size
    # 1e-42 is a denormal: few of its digits are left, and so few of the direction's.
    tolerance = 1e-2 if size < 1e-38 else 1e-6
    np.testing.assert_allclose(relation_scores(scaled, probs, labels), expected,
                               atol=tolerance * expected.abs().max())


def test_permutation_and_duplication(clusters):
    features, probs, labels, _ = clusters
    scores = relation_scores(features, probs, labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(relation_scores(features[order], probs[order], labels[order]),
                               scores[order], rtol=1e-5)
    twice = relation_scores(features.repeat(2, 1), probs.repeat(2, 1), labels.repeat(2))
    np.testing.assert_allclose(twice, 2 * scores.repeat(2), rtol=1e-5)


def test_zero_feature_relates_to_nothing(clusters):
    features, probs, labels, _ = clusters
    features[5] = 0
    scores = relation_scores(features, probs, labels)
    assert scores[5] == 0 and scores.isfinite().all()


@pytest.mark.parametrize("wrong, message", [
    (dict(kernel="rbf"), "kernel: expected one of cos_p, cos, got 'rbf'"),
    (dict(temperature=0), "temperature: expected a number above 0, up to 1000, got 0"),
    (dict(temperature=1e9), "temperature: expected a number above 0, up to 1000, got 1000000000"),
    (dict(temperature=float("nan")), "temperature: expected a number above 0, up to 1000, got nan"),
    (dict(threshold=-1), "threshold: expected a number of at least 0, got -1"),
    (dict(chunk=0), "chunk: expected at least 1 row, got 0"),
    (dict(probs=None), "probs are needed by kernel 'cos_p'"),
    (dict(probs=torch.ones(3, 2)), r"probs: expected shape \(4, C\), got \(3, 2\)"),
    (dict(labels=torch.zeros(5)), r"labels: expected shape \(4,\), got \(5,\)"),
    (dict(features=torch.zeros(4, 2, dtype=torch.int64)), "features: expected floats"),
    (dict(features=torch.zeros(0, 2)), "features: expected at least one row"),
    (dict(target_probs=torch.ones(4, 2)), "need target_features"),
    (dict(target_features=torch.ones(4, 3), target_probs=torch.ones(4, 2), labels=None),
     "features have 2 columns, target_features 3"),
    (dict(target_features=torch.ones(4, 2), target_probs=torch.ones(4, 3), labels=None),
     "probs have 2 classes, target_probs 3"),
    (dict(target_features=torch.ones(4, 2), target_probs=torch.ones(4, 2)),
     "expected labels for both source and target"),
])
def test_wrong_use(wrong, message):
    right = dict(features=torch.ones(4, 2), probs=torch.ones(4, 2) / 2,
                 labels=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        relation_scores(**{**right, **wrong})


@pytest.mark.parametrize("k", [-1, 4])
def test_topk_needs_enough_rows(k):
    with pytest.raises(ValueError, match=f"k: expected 0 to 3 .* got {k}"):
        relation_topk(torch.ones(4, 2), None, kernel="cos", k=k)


def many_classes(n, classes, seed, *, flat=False):
    """Rows sure of one class, split between two, or flat: what pruning has to tell apart."""
    generator = torch.Generator().manual_seed(seed)
    main = torch.randint(0, classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), main] += 2 if flat else 9
    half = torch.arange(n) % 3 == 0
    logits[half, (main[half] + 1) % classes] += 8.5
    features = torch.randn(classes, 24, generator=generator)[main] \
        + 0.7 * torch.randn(n, 24, generator=generator)
    labels = torch.where(torch.rand(n, generator=generator) < 0.9, main, (main + 3) % classes)
    return features, torch.softmax(logits, 1), labels


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("chunk", [5, 250])
@pytest.mark.parametrize("threshold", [0.001, 0.03, 0.5])
def test_pruning_loses_no_edge(threshold, chunk, flat):
    """Related to itself and to others."""
    source = many_classes(700, 40, 1, flat=flat)
    scores = relation_scores(*source, threshold=threshold, chunk=chunk)
    assert_scores(scores, dense_relation(*source), threshold=threshold)
    other = many_classes(300, 40, 2, flat=flat)
    pair = dict(zip(("target_features", "target_probs", "target_labels"), other))
    scores = relation_scores(*source, **pair, threshold=threshold, chunk=chunk)
    assert_scores(scores, dense_relation(*source, **pair), threshold=threshold)
    pair = dict(zip(("target_features", "target_probs", "target_labels"), source))
    scores = relation_scores(*other, **pair, threshold=threshold, chunk=chunk)  # the smaller one
    assert_scores(scores, dense_relation(*other, **pair), threshold=threshold)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("count", [0, 1, 200, 700])
def test_pruning_loses_no_edge_to_some_of_the_rows(count, flat):
    source = many_classes(700, 40, 1, flat=flat)
    rows = torch.randperm(700, generator=torch.Generator().manual_seed(2))[:count].sort().values
    scores = relation_scores(*source, target_rows=rows)
    assert_scores(scores, dense_relation(*source)[:, rows.numpy()], threshold=0.03)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_bit(threads):
    source, other = many_classes(700, 40, 1), many_classes(300, 40, 2)
    how = dict(zip(("target_features", "target_probs", "target_labels"), source))
    rows = torch.arange(0, 700, 3)
    expected = relation_scores(*other, **how), relation_scores(*source, target_rows=rows)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = relation_scores(*other, **how), relation_scores(*source, target_rows=rows)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found, expected))


class Kept:
    """A checkpoint that holds the last sums of each division."""

    def __init__(self):
        self.sums, self.division = {}, None

    def load(self, division):
        self.division = division
        return self.sums.get(division)

    def offer(self, done, sums):
        self.sums[self.division] = done, sums.clone()


@pytest.mark.parametrize("kernel", KERNELS)
def test_sums_over_other_rows_are_not_resumed_from(kernel):
    features, probs, labels = many_classes(90, 40, 1)
    probs[40:80] = probs[:40]  # so that blocks and costs are the same
    kept, first, second = Kept(), torch.arange(40), torch.arange(40, 80)
    relation_scores(features, probs, labels, target_rows=first, kernel=kernel, checkpoint=kept)
    found = relation_scores(features, probs, labels, target_rows=second, kernel=kernel,
                            checkpoint=kept)
    expected = relation_scores(features, probs, labels, target_rows=second, kernel=kernel)
    assert len(kept.sums) == 2 and torch.equal(found, expected)


def test_classes_that_a_block_hardly_holds_are_left_out_of_its_products(monkeypatch):
    widths = []
    monkeypatch.setattr("relation.blocks.products", lambda *arguments, products=products: (
        widths.append(arguments[1].shape[1]), products(*arguments))[1])
    features, probs, labels = many_classes(700, 40, 1)
    probs = torch.softmax(3 * probs.log(), 1)
    for threshold in (0.001, 0.03):
        scores = relation_scores(features, probs, labels, threshold=threshold, temperature=1)
        assert_scores(scores, dense_relation(features, probs, labels), threshold=threshold,
                      temperature=1, relative=1e-6)
    assert min(widths) < 10


def test_the_bound_counts_what_is_below_the_floor_in_both_rows():
    """p . q = 0.0302, of which 0.0030 comes from entries that one of the two has as no peak."""
    p, q = torch.zeros(2, 300)
    p[0], p[1], p[2] = 0.8, 0.00187, 0.165
    q[0], q[1], q[2] = 0.00187, 0.8, 0.165
    ones = torch.ones(1, 4)
    score = relation_scores(ones, p[None], target_features=ones, target_probs=q[None],
                            temperature=1)
    assert float(score) == pytest.approx(float(p @ q), rel=1e-6)


@pytest.mark.parametrize("dim, classes", [(8, 2), (64, 100), (1024, 1000)])
def test_computed_relations_exceed_p_dot_p_by_no_more_than_the_margin(dim, classes):
    """A true cosine is at most 1; as computed some exceed it, and so may an edge its p . p."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2000, dim, generator=generator)
    probs = torch.softmax(torch.randn(2000, classes, generator=generator), 1)
    unit = features * inverse_norms(features)[:, None]
    excess = (unit[:, None] @ unit[:, :, None])[:, 0, 0] * (probs * probs).sum(1) \
        / (probs.double() * probs.double()).sum(1) - 1
    assert 0 < float(excess.max()) < rounding_margin(dim, classes)


@pytest.mark.parametrize("rows", [[0, 4], [-1], [1, 1], [True, False, True, False], [[0, 1]]])
@pytest.mark.parametrize("engine", ["auto", "dense"])
def test_target_rows_that_are_none(engine, rows):
    ones = torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"target_rows: expected int64 \(K,\) of 0 to 3, each"):
        relation_scores(ones, ones / 2, target_rows=torch.tensor(rows), engine=engine)


@pytest.mark.parametrize("engine", ["auto", "dense"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_target_rows_are_the_rows_themselves(kernel, engine):
    features, probs, labels = many_classes(300, 40, 9)
    rows = torch.arange(0, 300, 7)
    how = dict(kernel=kernel, engine=engine, chunk=16)
    chosen = relation_scores(features, probs, labels, target_rows=rows, **how)
    assert_scores(chosen, dense_relation(features, probs, labels, kernel=kernel)[:, ::7])
    other = many_classes(100, 40, 10)
    pair = dict(zip(("target_features", "target_probs", "target_labels"), other))
    chosen = relation_scores(features, probs, labels, **pair, target_rows=rows[:9], **how)
    dense = dense_relation(features, probs, labels, **pair, kernel=kernel)
    assert_scores(chosen, dense[:, rows[:9]])


def test_an_edge_just_above_the_threshold_is_kept_and_one_at_it_dropped():
    """Equal features: the relation is p . p itself, where the bound has nothing to spare."""
    features = torch.ones(4, 3)
    for high in (0.17, 0.4):
        probs = torch.full((4, 100), (1 - high) / 99)
        probs[:, 0] = high
        pp = float((probs[0].double() ** 2).sum())
        scores = relation_scores(features, probs, temperature=1, threshold=pp * (1 - 1e-5))
        np.testing.assert_allclose(scores, 4 * pp, rtol=1e-5)
        assert not relation_scores(features, probs, temperature=1,
                                   threshold=pp * (1 + 1e-5)).any()


def test_values_that_are_no_probabilities_are_not_pruned_by():
    """Entries below 0 or sums above 1 have other bounds; the formula is the same."""
    features, probs, labels = many_classes(200, 30, 3)
    for odd in (probs - 0.05, probs * 7):
        scores = relation_scores(features, odd, labels, temperature=1)
        assert_scores(scores, dense_relation(features, odd, labels), temperature=1)


def test_engines_agree_and_an_unknown_one_is_refused():
    inputs = many_classes(500, 40, 4)
    auto, dense = (relation_scores(*inputs, engine=engine) for engine in ("auto", "dense"))
    np.testing.assert_allclose(auto, dense, atol=1e-6 * float(dense.abs().max()))
    with pytest.raises(ValueError, match="engine: expected auto or dense, got 'fast'"):
        relation_scores(*inputs, engine="fast")


@pytest.fixture
def torch_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_workers_do_not_change_the_result(torch_threads):
    inputs = many_classes(900, 40, 5)
    torch.set_num_threads(1)
    one = relation_scores(*inputs)
    torch.set_num_threads(3)
    three = relation_scores(*inputs)
    assert torch.get_num_threads() == 3  # as it was found
    assert torch.equal(three, one)


def test_threads_do_not_change_the_order_of_tied_rows(torch_threads):
    """So many that torch would share the writing of one array among threads: each position would
    get the entry of whoever came last. Sums that are kept, or added up, go by position."""
    peaks = find_peaks(torch.full((20_000, 20), 0.05), 0.001)
    orders = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        orders.append(order_rows(peaks, 20_000, 20, threshold=0.03, largest_block=250))
    assert all(torch.equal(order, orders[0][0]) and blocks == orders[0][1]
               for order, blocks in orders[1:])


@pytest.mark.parametrize("order", ["random", "rising", "equal", "rare"])
def test_topk_of_many_rows_equals_a_sort(order, monkeypatch):
    """Where the guess from a sample holds, where it is too low, where it is too high."""
    monkeypatch.setattr("relation.topk.SAMPLE", 64)
    monkeypatch.setattr("relation.topk.TILE_COLUMNS", 100)
    generator = torch.Generator().manual_seed(8)
    features = torch.randn(30, 12, generator=generator)
    target = torch.randn(2000, 12, generator=generator)
    if order == "rising":
        target = target[(target @ features[0] / target.norm(dim=1)).argsort()]
    elif order == "equal":
        target = target[:1].expand(2000, 12).contiguous()
    elif order == "rare":  # what the sample sees, every 31st row, is what is nearest
        target[::31] = features[0] + 0.1 * target[::31]
    labels = torch.arange(30) % 2
    pair = dict(target_features=target, target_labels=torch.arange(2000) % 2)
    found = relation_topk(features, None, labels, **pair, kernel="cos", k=40, chunk=7)
    r = dense_relation(features, None, labels, target_features=target,
                       target_labels=pair["target_labels"], kernel="cos")
    for values, indices, expected in ((found[0], found[1], -np.sort(-r, 1)),
                                      (found[2], found[3], np.sort(r, 1))):
        np.testing.assert_allclose(values, expected[:, :41], atol=2e-6)
        np.testing.assert_allclose(np.take_along_axis(r, indices.numpy(), 1), values, atol=2e-6)
        assert all(len(set(row)) == 41 for row in indices.tolist())


def test_sums_far_above_one_are_not_pruned_by():
    """Rows without a peak can then hold edges: 1,000 entries of 0.0075 make p . p = 0.056."""
    scores = relation_scores(torch.ones(6, 4), torch.full((6, 1000), 0.0075), temperature=1)
    np.testing.assert_allclose(scores, 6 * 1000 * 0.0075**2, rtol=1e-5)


def test_a_nan_stays_with_its_row_and_its_neighbours():
    features, probs, labels = many_classes(60, 40, 6)
    probs[0, 3] = float("nan")
    scores = [relation_scores(features, probs, labels, engine=e) for e in ("auto", "dense")]
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_gradients_are_not_followed():
    features, probs, labels = many_classes(60, 40, 7)
    scores = relation_scores(features.requires_grad_(), probs, labels)
    assert not scores.requires_grad


def test_an_error_in_a_worker_ends_the_run(monkeypatch):
    done = []

    def fail(*_, **__):
        done.append(1)
        if len(done) == 1:
            raise MemoryError("no more")
        time.sleep(0.05)  # the others are at work while the first one's error is noticed
        raise MemoryError("no more")

    monkeypatch.setattr("relation.sums.block_sums", fail)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(MemoryError):
            relation_scores(*many_classes(2000, 40, 8), chunk=4)
    finally:
        torch.set_num_threads(threads)
    assert len(done) < 20  # of 500 blocks


@pytest.mark.parametrize("rare", [False, True])
def test_peaks_are_found_wherever_they_lie(rare):
    """With `rare` where the sample of the rows, every second one, sees none of them."""
    generator = torch.Generator().manual_seed(9)
    probs = torch.softmax(4 * torch.randn(5000, 6, generator=generator), 1)
    if rare:
        probs[::2] = 0
    peaks = find_peaks(probs, 0.02)
    row, column = (probs > 0.02).nonzero(as_tuple=True)
    assert torch.equal(peaks.row, row) and torch.equal(peaks.column, column)
    assert torch.equal(peaks.value, probs[row, column])
