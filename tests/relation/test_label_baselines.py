from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from relation import LABEL_BASELINES, evaluate, label_baseline_scores
from relation.label_baselines import CPU_BLOCK, EPS, PIECE, Terms
from tests.heap import growth_of


@pytest.fixture
def torch_threads():
    """Sets how many threads torch has, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def dense_scores(features, probs, labels):
    """The published formulas over whole matrices, in float64 except for p + 1e-6: where that is
    next to 1, cwe divides by what its rounding leaves of the logarithm."""
    f, p = features.double(), probs.double()
    log_p = (probs.float() + EPS).double().log()
    onehot = one_hot(labels, p.shape[1]).double()
    own = p.gather(1, labels[:, None])[:, 0]
    best = p.sort(1, descending=True).values
    entropy = -(p * log_p).sum(1)
    m = (p + onehot) / 2 + EPS
    terms = m * (m.log() - log_p) + m * (m.log() - (onehot + EPS).log())
    return {
        "loss": -(own + EPS).log(),
        "margin": torch.where(own == best[:, 0], best[:, 1], best[:, 0]) - own,
        "entropy": entropy,
        "least-confidence": -best[:, 0],
        "cwe": -own / entropy.clamp(min=EPS),
        "tracin": f.square().sum(1) * (onehot - p).square().sum(1),
        "jsd": terms.sum(1) / 2,
    }


def made(n, classes, *, sharpness=3.0):
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(sharpness * torch.randn(n, classes, generator=generator), 1)
    labels = torch.where(torch.rand(n, generator=generator) < 0.7, probs.argmax(1),
                         torch.randint(0, classes, (n,), generator=generator))
    return torch.randn(n, 24, generator=generator), probs, labels


def assert_equal(scores, expected):
    assert list(scores) == list(LABEL_BASELINES)
    for name, values in scores.items():
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, expected[name], err_msg=name,
                                   atol=1e-5 * float(expected[name].abs().max()))


@pytest.mark.parametrize("name", LABEL_BASELINES)
def test_golden(golden, name):
    inputs = [torch.from_numpy(golden[key]) for key in ("feat", "prob", "targets")]
    expected = golden[f"baseline/{name}"]
    scores = label_baseline_scores(*inputs)[name]
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(evaluate(scores, golden["noise"])[:3], golden[f"metrics/{name}"],
                               atol=1e-4)


@pytest.mark.parametrize("classes", [2, 7, 1000])
@pytest.mark.parametrize("sharpness", [0.1, 3.0])
def test_dense(classes, sharpness):
    inputs = made(500, classes, sharpness=sharpness)
    assert_equal(label_baseline_scores(*inputs), dense_scores(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_those_of_the_stored_numbers(dtype):
    features, probs, labels = made(200, 9)
    inputs = features.to(dtype), probs.to(dtype), labels
    assert_equal(label_baseline_scores(*inputs), dense_scores(*inputs))


@pytest.mark.parametrize("name", ["loss", "margin", "cwe", "tracin", "jsd"])
def test_planted_errors_rank_first(clusters, name):
    features, probs, labels, is_noisy = clusters
    assert is_noisy[label_baseline_scores(features, probs, labels)[name].topk(8).indices].all()


def test_margin_of_the_largest_is_its_lead():
    probs = torch.tensor([[0.6, 0.3, 0.1]] * 3)
    scores = label_baseline_scores(torch.ones(3, 2), probs, torch.tensor([0, 1, 2]))
    np.testing.assert_allclose(scores["margin"], [-0.3, 0.3, 0.5], atol=1e-7)


def test_saturated_correct_row_is_not_suspect():
    """The published entropy is negative here, which would turn the sign of cwe."""
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    sure, unsure = label_baseline_scores(torch.ones(2, 2), probs, torch.tensor([0, 0]))["cwe"]
    assert sure < unsure


def test_confident_rows_keep_the_digits_of_small_residuals():
    probs = torch.tensor([[1 - 2e-4, 1e-4, 1e-4]])
    scores = label_baseline_scores(torch.ones(1, 1), probs, torch.tensor([0]))
    np.testing.assert_allclose(scores["tracin"], dense_scores(torch.ones(1, 1), probs,
                                                              torch.tensor([0]))["tracin"],
                               rtol=1e-5)


def test_one_class_is_finite():
    scores = label_baseline_scores(torch.ones(3, 2), torch.ones(3, 1), torch.zeros(3).long())
    assert all(values.isfinite().all() for values in scores.values())


@pytest.mark.parametrize("n, classes", [(PIECE + 5, 3), (2 * (CPU_BLOCK // 1000) + 5, 1000)])
def test_rows_beyond_one_block(n, classes):
    inputs = made(n, classes)
    assert_equal(label_baseline_scores(*inputs), dense_scores(*inputs))


def test_inputs_stay_as_they_are():
    inputs = made(50, 6)
    copies = [values.clone() for values in inputs]
    label_baseline_scores(*inputs)
    assert all(map(torch.equal, inputs, copies))


def test_the_same_for_any_number_of_threads(torch_threads):
    inputs = made(3 * PIECE, 5)
    torch_threads(1)
    expected = label_baseline_scores(*inputs)
    torch_threads(3)
    assert all(torch.equal(values, expected[name])
               for name, values in label_baseline_scores(*inputs).items())


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_heap_does_not_grow(threads):
    """Small results that are kept between large temporaries that are freed would let it: by
    gigabytes for a million rows. The data are a file without content, so all that is there counts.
    """
    n, rows = 12_000, (16, 131)
    grown = growth_of(f"""
        for rows in {rows}:
            label_baselines.CPU_BLOCK = 1000 * rows
            for _ in range(2):
                label_baselines.label_baseline_scores(features, probs, labels)
    """, given=f"""
        import tempfile
        import numpy as np
        from relation import label_baselines
        with tempfile.TemporaryFile() as file:
            file.truncate(4000 * {n})
            probs = torch.from_numpy(np.memmap(file, np.float32, shape=({n}, 1000)))
        features, labels = torch.ones(1, 64).expand({n}, 64), torch.arange({n}) % 1000
        label_baselines.label_baseline_scores(features[:100], probs[:100], labels[:100])
    """, threads=threads)
    arrays = 4 * n * (len(Terms._fields) + 2 * len(LABEL_BASELINES))
    blocks = threads * 3 * 4000 * sum(rows)  # each size leaves its own behind
    assert grown < (arrays + blocks) / 2**20 + 16  # what libraries take in passing
