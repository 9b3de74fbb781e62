import pytest
import torch

from experiment.command.errors import InputError
from language.noise import noisy_labels

# Every percent once as the probability of the given label; 39 of the 100 rows are above 0.6, and
# of those every tenth, from the first, is row 2 (0.74), 27 (0.99), 53 (0.61) and 78 (0.86).
OWN = torch.tensor([37 * row % 100 / 100 for row in range(100)])
CHANGED = [2, 27, 53, 78]


def table(classes):
    labels = torch.arange(100) % classes
    probs = ((1 - OWN) / (classes - 1))[:, None].repeat(1, classes)
    return probs.scatter(1, labels[:, None], OWN[:, None]), labels


@pytest.mark.parametrize("classes, old, new", [
    (2, [0, 1, 1, 0], [1, 0, 0, 1]),  # SST-2 flips
    (3, [2, 0, 2, 0], [0, 2, 1, 1]),  # MNLI adds 1, 2, 2, 1: torch.randint(1, 3) after seed 0
])
def test_recipe_row_by_row(classes, old, new):
    probs, labels = table(classes)
    targets, changed = noisy_labels(probs, labels)
    assert changed.tolist() == CHANGED
    assert labels[changed].tolist() == old
    assert targets[changed].tolist() == new
    kept = torch.ones(100, dtype=torch.bool)
    kept[changed] = False
    assert torch.equal(targets[kept], labels[kept])


def test_as_many_as_the_ratio_and_the_published_draw():
    probs, labels = torch.eye(3).repeat(67, 1), torch.arange(201) % 3
    targets, changed = noisy_labels(probs, labels)
    assert changed.tolist() == list(range(0, 201, 10))  # ceil(0.1 * 201) = 21
    torch.manual_seed(0)
    steps = torch.randint(1, 3, (21,))
    assert torch.equal(targets[changed], (labels[changed] + steps) % 3)


def test_sure_means_above_the_bound_not_at_it():
    probs = torch.tensor([[0.6, 0.4], [0.61, 0.39]])
    assert noisy_labels(probs, torch.tensor([0, 0]))[1].tolist() == [1]


def test_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    noisy_labels(*table(3))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("probs, message", [
    (torch.full((4, 2), 0.5), "rows whose label has a probability above 0.6, got none in 4"),
    (torch.ones(4, 1), "at least two classes, got one"),
])
def test_refuses(probs, message):
    with pytest.raises(InputError, match=message):
        noisy_labels(probs, torch.zeros(4, dtype=torch.int64))
