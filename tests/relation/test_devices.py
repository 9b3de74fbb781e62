"""The golden, dense and property checks on every device: `python -m pytest -m gpu` where there is
an accelerator; on the CPU in every run, so that the checks themselves stay right."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relation import (
    KERNELS,
    LABEL_BASELINES,
    auto_scores,
    detect_label_noise,
    detect_ood,
    knn_scores,
    label_baseline_scores,
    ood_baselines,
    relation_scores,
    relation_topk,
)
from relation.mahalanobis import mahalanobis
from tests.dense import assert_scores, dense_relation, dense_sums


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu),
                        pytest.param("mps", marks=pytest.mark.gpu)])
def device(request):
    there = {"cpu": True, "cuda": torch.cuda.is_available(),
             "mps": torch.backends.mps.is_available()}
    if not there[request.param]:
        pytest.skip(f"no {request.param} device on this machine")
    return torch.device(request.param)


def inputs(arrays, device, names=("feat", "prob", "targets")):
    return [torch.from_numpy(arrays[name]).to(device) for name in names]


def assert_golden(actual, expected, relative=1e-5):
    np.testing.assert_allclose(actual.cpu(), expected, rtol=0,
                               atol=relative * np.abs(expected).max())


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_golden_scores(golden, device, kernel, temperature):
    found = detect_label_noise(*inputs(golden, device), kernel=kernel, temperature=temperature)
    assert found.scores.device.type == device.type
    case = f"{kernel}/pow{temperature}"
    assert_golden(found.reliability, golden[f"refined/{case}"])
    np.testing.assert_array_equal(found.estimated_noise.cpu(), golden[f"estimated_noise/{case}"])
    scores = relation_scores(*inputs(golden, device), kernel=kernel, temperature=temperature)
    assert_golden(scores, golden[f"score/{case}"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_golden_topk(golden, device, kernel):
    found = relation_topk(*inputs(golden, device), kernel=kernel, k=10, chunk=64)
    assert_golden(found[0], golden[f"topk10/{kernel}/top_val"])
    assert_golden(found[2], golden[f"topk10/{kernel}/low_val"])


def test_golden_label_baselines(golden, device):
    scores = label_baseline_scores(*inputs(golden, device))
    for name in LABEL_BASELINES:
        assert_golden(scores[name], golden[f"baseline/{name}"])


@settings(max_examples=30, deadline=None, suppress_health_check=[
    HealthCheck.function_scoped_fixture])  # the device is the same for all examples
@given(n=st.integers(1, 80), m=st.integers(0, 40), dim=st.integers(1, 9),
       classes=st.integers(1, 60), sharpness=st.sampled_from([0.1, 5.0, 30.0]),
       temperature=st.sampled_from([1, 1.5, 4]), kernel=st.sampled_from(KERNELS),
       labelled=st.booleans(), chunk=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_equals_dense_formula(device, n, m, dim, classes, sharpness, temperature, kernel,
                              labelled, chunk, seed):
    generator = torch.Generator().manual_seed(seed)

    def rows(count):
        features = torch.randn(count, dim, generator=generator) + 0.5
        features[0] = 0
        probs = torch.softmax(sharpness * torch.randn(count, classes, generator=generator), 1)
        labels = torch.randint(0, classes, (count,), generator=generator) if labelled else None
        return features, probs, labels

    def there(tensors):
        return [None if tensor is None else tensor.to(device) for tensor in tensors]

    names, source, other = ("target_features", "target_probs", "target_labels"), rows(n), ()
    if m:
        other = rows(m)
    scores = relation_scores(*there(source), **dict(zip(names, there(other))), kernel=kernel,
                             temperature=temperature, chunk=chunk)
    assert_scores(scores.cpu(), dense_relation(*source, **dict(zip(names, other)), kernel=kernel),
                  temperature=temperature)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_dense_formula_on_the_rounded_inputs(golden, device, dtype):
    features, probs, labels = inputs(golden, torch.device("cpu"))
    features, probs = features.to(dtype), probs.to(dtype)
    scores = relation_scores(features.to(device), probs.to(device), labels.to(device))
    assert_scores(scores.cpu(), dense_relation(features, probs, labels))


def test_outliers_equal_the_dense_formula(clusters, device):
    features, probs, labels, _ = clusters
    test, train = (features[:20], probs[:20]), (features[20:], probs[20:])
    on_device = [values.to(device) for values in (*test, *train)]
    s = dense_sums(dense_relation(*test, None, *train), temperature=1)
    np.testing.assert_allclose(1 / detect_ood(*on_device).cpu(), s + 1e-6, rtol=1e-4, atol=1e-7)
    cosines = np.sort(dense_relation(test[0], None, None, train[0], kernel="cos"), axis=1)
    np.testing.assert_allclose(1 / knn_scores(on_device[0], on_device[2], k=10).cpu(),
                               cosines[:, -11] + 1e-6, rtol=1e-4, atol=1e-6)


def test_outlier_baselines_are_those_of_the_cpu(clusters, device):
    features, probs, labels, _ = clusters
    logits = probs.log()

    def scores(where):
        f, p, z, y = (values.to(where) for values in (features, probs, logits, labels))
        return (ood_baselines.msp(p), ood_baselines.max_logit(z), ood_baselines.energy(z),
                ood_baselines.kl_matching(p[:9], p), mahalanobis(f[:9], f, y))

    for actual, expected in zip(scores(device), scores("cpu")):
        assert actual.device.type == device.type
        assert_golden(actual, expected.numpy(), relative=1e-3)


def test_auto_finds_planted_errors(clusters, device):
    features, probs, labels, is_noisy = (values.to(device) for values in clusters)
    found = auto_scores(features, probs, labels)
    assert is_noisy.cpu()[found.scores.topk(8).indices].all()
