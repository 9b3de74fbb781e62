import numpy as np
import pytest
import torch

from relation import evaluate
from relation.class_noise import find_class_noise, wrong_probs


def believed(given, confidence, hard, n_classes=5):
    """q (N, C) of witnesses, classes in order: `confidence` (N,) in the true class of each row, the
    rest in the class `given` (N,) or, of the `hard` (N,) rows, in the second after the true one."""
    n = len(given)
    true = torch.arange(n) % n_classes
    q = torch.full((n, n_classes), 0.02)
    q.scatter_(1, true[:, None], confidence[:, None])
    q.scatter_add_(1, torch.where(hard, (true + 2) % n_classes, given)[:, None],
                   1 - q.sum(1, keepdim=True))
    return q


def slots_first(q, given):
    """q and the classes, the given one first, as auto has them."""
    order = (given[:, None] + torch.arange(q.shape[1])) % q.shape[1]
    return q.gather(1, order), order


@pytest.fixture
def paired():
    """500 rows in 5 classes, 100 of them wrong, all from c to c + 1, which the witnesses believe a
    little of every row, and 50 right ones that they take for c + 2: q, slots, given, is_noisy."""
    true = torch.arange(500) % 5
    is_noisy, hard = torch.arange(500) < 100, torch.arange(500) >= 450
    given = torch.where(is_noisy, (true + 1) % 5, true)
    generator = torch.Generator().manual_seed(0)
    confidence = torch.where(hard, 0.3, 0.5 + 0.4 * torch.rand(500, generator=generator))
    q = believed((true + 1) % 5, confidence, hard)
    q, slots = slots_first(q, given)
    return q, slots, given, is_noisy


def test_labels_of_a_pattern_come_before_hard_ones(paired):
    q, slots, given, is_noisy = paired
    noise = find_class_noise(q, slots, given, 5)
    assert noise.weight == 1
    found = wrong_probs(q, slots, given, noise)
    assert evaluate(found.numpy(), is_noisy.numpy()).ap > evaluate(
        (1 - q[:, 0]).numpy(), is_noisy.numpy()).ap + 0.01
    assert ((found >= 0) & (found <= 1)).all()


def test_against_the_plain_formula(paired):
    q, slots, given, _ = paired
    noise = find_class_noise(q, slots, given, 5)
    likeliest = slots.gather(1, q.argmax(1, keepdim=True))[:, 0].numpy()
    sure, counts = q.amax(1).numpy(), np.zeros((5, 5))
    for c in range(5):
        rows = np.flatnonzero(likeliest == c)
        for row in rows[np.argsort(sure[rows])][len(rows) // 2:]:
            counts[c, given[row]] += 1
    wrong = counts - np.diag(np.diag(counts))
    chance = wrong.sum() / counts.sum() / 4
    lift = (counts + 10 * chance) / (counts.sum(1, keepdims=True) + 10) / chance
    ranked = np.sort(wrong, 1)
    lead = np.maximum(0, ranked[:, -1] - ranked[:, -2] - 1).sum() / counts.sum()
    weight = min(1, max(0, (lead - 0.05) / 0.1))
    assert noise.weight == pytest.approx(weight)
    full = q.new_zeros(q.shape).scatter(1, slots, q).double().numpy()
    odds = np.array([sum(full[i, c] * (1 - weight + weight * lift[c, y])
                         for c in range(5) if c != y) for i, y in enumerate(given.tolist())])
    np.testing.assert_allclose(wrong_probs(q, slots, given, noise), odds / (odds + q[:, 0].numpy()),
                               rtol=1e-5)


def test_wrong_labels_of_all_classes_are_no_pattern():
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(2000) % 5
    given = torch.where(torch.rand(2000, generator=generator) < 0.4,
                        torch.randint(5, (2000,), generator=generator), true)
    q = believed(given, 0.6 + 0.1 * torch.rand(2000, generator=generator), torch.zeros(2000) > 0)
    q, slots = slots_first(q, given)
    noise = find_class_noise(q, slots, given, 5)
    assert noise.weight == 0
    np.testing.assert_allclose(wrong_probs(q, slots, given, noise), 1 - q[:, 0], atol=1e-6)


def test_a_class_of_two_rows_makes_no_pattern():
    true = torch.arange(60) % 30
    given = torch.where(torch.arange(60) < 30, (true + 1) % 30, true)  # one wrong row of each class
    q, slots = slots_first(torch.eye(30)[true], given)
    assert find_class_noise(q, slots, given, 30).weight == 0


@pytest.mark.parametrize("classes", [1, 2])
def test_up_to_two_classes_have_no_pattern(classes):
    given = torch.zeros(6, dtype=torch.int64)
    q = torch.full((6, classes), 1 / classes)
    slots = torch.arange(classes).expand(6, classes)
    noise = find_class_noise(q, slots, given, classes)
    assert wrong_probs(q, slots, given, noise).tolist() == pytest.approx([1 - 1 / classes] * 6)
