"""Each OOD baseline against the published arrays, against its dense formula, and at its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import relation
from relation import ood_baselines
from relation.mahalanobis import mahalanobis

EPS = 1e-6


@pytest.fixture(scope="module")
def golden(golden_ood):
    """As tensors, with the logits and probabilities that the head gives."""
    arrays = {name: torch.from_numpy(array) for name, array in golden_ood.items()}
    logits = arrays["feat_test"] @ arrays["weight"].T + arrays["bias"]
    target_logits = arrays["feat"] @ arrays["weight"].T + arrays["bias"]
    return arrays | {"logits": logits, "probs": logits.softmax(1),
                     "target_probs": target_logits.softmax(1)}


def published_scores(golden):
    features, target = golden["feat_test"], golden["feat"]
    both = golden["probs"], target, golden["target_probs"]
    return {
        "msp": lambda: ood_baselines.msp(golden["probs"]),
        "max_logit": lambda: ood_baselines.max_logit(golden["logits"]),
        "energy": lambda: ood_baselines.energy(golden["logits"]),
        "kl_matching": lambda: ood_baselines.kl_matching(golden["probs"], golden["target_probs"]),
        "mahalanobis": lambda: mahalanobis(features, target, golden["targets"]),
        "knn10": lambda: relation.knn_scores(features, target, k=10),
        "knn100": lambda: relation.knn_scores(features, target, k=100),
        "relation_pow1": lambda: relation.detect_ood(features, *both, temperature=1),
        "relation_pow4": lambda: relation.detect_ood(features, *both, temperature=4),
    }


@pytest.mark.parametrize("name", ["msp", "max_logit", "energy", "kl_matching", "mahalanobis",
                                  "knn10", "knn100", "relation_pow1", "relation_pow4"])
def test_published_scores_and_metrics(golden, name):
    scores, expected = published_scores(golden)[name](), golden[f"score/{name}"]
    assert scores.dtype == torch.float32
    auroc, ap, tnr95, _ = relation.evaluate(scores.numpy(), golden["is_ood"].numpy())
    np.testing.assert_allclose([auroc, ap, tnr95], golden[f"metrics/{name}"], rtol=0, atol=1e-4)
    if name == "mahalanobis":
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=0)
        return
    if name.startswith(("knn", "relation")):  # 1e6 means no kept edge: compare the sums
        scores, expected = 1 / scores, 1 / expected
    # An edge within rounding of the threshold may fall on either side.
    edge = 0.03 ** int(name[-1]) if name.startswith("relation") else 0
    assert (scores - expected).abs().max() <= 1e-5 * expected.abs().max() + edge


def softmax_rows(generator, n, classes):
    return torch.randn(n, classes, generator=generator).mul(3).softmax(1)


shapes = st.tuples(st.integers(1, 12), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5),
                   st.integers(0, 2**32))


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_scores_of_logits_against_plain_loops(shape):
    n, _, _, classes, seed = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator) * 10
    probs = logits.softmax(1)
    for row in range(n):
        assert ood_baselines.msp(probs)[row] == -max(probs[row])
        assert ood_baselines.max_logit(logits)[row] == -max(logits[row])
        for t in (1, 2.5):
            plain = -np.log(np.exp(logits[row].double().numpy() / t).sum())
            np.testing.assert_allclose(
                ood_baselines.energy(logits, softmax_temperature=t)[row], plain, rtol=1e-5,
                atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_kl_matching_against_plain_loops(shape):
    n, m, _, classes, seed = shape
    generator = torch.Generator().manual_seed(seed)
    probs = softmax_rows(generator, n, classes)
    target_probs = softmax_rows(generator, m, classes)
    predicted = target_probs.argmax(1)
    plain = torch.full((n,), float("inf"), dtype=torch.float64)
    for c in predicted.unique():
        typical = target_probs[predicted == c].double().mean(0)
        p = probs.double()
        plain = plain.minimum((p * ((p + EPS).log() - (typical + EPS).log())).sum(1))
    scores = ood_baselines.kl_matching(probs, target_probs)
    torch.testing.assert_close(scores, plain.float(), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_react_against_numpy(shape):
    n, m, dim, classes, seed = shape
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, dim, generator=generator)
    target = torch.randn(20 * m, dim, generator=generator)
    weight = torch.randn(classes, dim, generator=generator)
    bias = torch.randn(classes, generator=generator)
    entries = np.sort(target.numpy()[::100].ravel())
    clamped = np.minimum(features.numpy(), entries[int(0.9 * entries.size)])
    expected = ood_baselines.energy(torch.from_numpy(clamped) @ weight.T + bias)
    scores = ood_baselines.react(features, target, weight, bias)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_react_really_clamps(golden):
    scores = ood_baselines.react(golden["feat_test"], golden["feat"], golden["weight"],
                                 golden["bias"])
    assert not torch.allclose(scores, ood_baselines.energy(golden["logits"]), rtol=0.01)


def test_classes_without_rows_are_left_out(golden):
    first = golden["targets"] < 3
    wide = torch.cat([golden["target_probs"][first], torch.zeros(int(first.sum()), 5)], 1)
    probs = torch.cat([golden["probs"], torch.zeros(800, 5)], 1)
    assert ood_baselines.kl_matching(probs, wide).isfinite().all()
    few = mahalanobis(golden["feat_test"], golden["feat"][first],
                                    golden["targets"][first])
    renumbered = mahalanobis(golden["feat_test"], golden["feat"][first],
                                           golden["targets"][first] * 300)
    assert few.isfinite().all() and torch.equal(few, renumbered)


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_result_does_not_depend_on_the_block(golden, block, monkeypatch):
    target, labels = golden["feat"][:400], golden["targets"][:400] % 5

    def scores():
        return torch.stack([
            ood_baselines.energy(golden["logits"][:50]),
            ood_baselines.kl_matching(golden["probs"][:50], golden["target_probs"][:400]),
            mahalanobis(golden["feat_test"][:50], target, labels)])

    whole = scores()
    for module in (ood_baselines, relation.mahalanobis):
        monkeypatch.setattr(module, "BLOCK", block)
    torch.testing.assert_close(scores(), whole, rtol=1e-5, atol=1e-6)


def test_half_precision_is_the_formula_on_the_rounded_inputs(golden):
    half, labels = golden["feat"][:200].half(), golden["targets"][:200] % 4
    features = golden["feat_test"].half()
    torch.testing.assert_close(
        mahalanobis(features, half, labels),
        mahalanobis(features.float(), half.float(), labels))
    torch.testing.assert_close(
        ood_baselines.react(features, half, golden["weight"], golden["bias"]),
        ood_baselines.react(features.float(), half.float(), golden["weight"], golden["bias"]))


def test_planted_outliers_rank_first():
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(4, 6, generator=generator) * 5
    labels = torch.arange(200) % 4
    target = centres[labels] + torch.randn(200, 6, generator=generator)
    inside = centres[labels[:40]] + torch.randn(40, 6, generator=generator)
    outside = torch.randn(10, 6, generator=generator)  # between the classes
    features = torch.cat([inside, outside])
    head = centres, -centres.square().sum(1) / 2  # the best linear head for such classes
    logits, target_logits = (f @ head[0].T + head[1] for f in (features, target))
    is_ood = np.arange(50) >= 40
    for scores in (mahalanobis(features, target, labels),
                   ood_baselines.msp(logits.mul(0.05).softmax(1)),
                   ood_baselines.kl_matching(logits.mul(0.05).softmax(1),
                                             target_logits.mul(0.05).softmax(1)),
                   ood_baselines.energy(features @ centres.T),
                   ood_baselines.max_logit(features @ centres.T)):
        assert relation.evaluate(scores.numpy(), is_ood).auroc > 0.9


@pytest.mark.parametrize("t", [0, -1, float("nan")])
def test_energy_refuses_a_temperature_that_is_not_positive(t):
    with pytest.raises(ValueError, match="softmax_temperature: expected above 0"):
        ood_baselines.energy(torch.zeros(2, 2), softmax_temperature=t)
