"""Which heads are taken for one of the user's classes, and in which order of the classes."""

import pytest
import torch

from experiment.inputs.own_head import OwnHead, match

TWELVE = tuple(map(str, range(1, 13)))


def logits_of(answers, classes):
    return 5.0 * torch.eye(classes)[answers]


def test_a_coin_is_not_one_s_own():
    """Two classes: of heads that toss a coin at most one in a thousand is taken."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(36) % 2
    taken = [match(OwnHead(torch.randn(36, 2, generator=generator), None), labels, ("no", "yes"))[0]
             for _ in range(2000)]
    assert sum(found is not None for found in taken) <= 2
    answers = labels.clone()
    answers[:16] = 1 - answers[:16]  # right on 55.6 %
    found, why = match(OwnHead(logits_of(answers, 2), None), labels, ("no", "yes"))
    assert found is None and "2 classes too, but reproduces 55.6 % of the labels" in why


@pytest.mark.parametrize("rows", [3, 9])
def test_few_rows_prove_nothing(rows):
    labels = torch.arange(rows) % 2
    assert match(OwnHead(logits_of(labels, 2), None), labels, ("a", "b"))[0] is None


@pytest.mark.parametrize("share", [0.6, 0.95])
def test_the_most_frequent_class_is_no_evidence(share):
    """A head that always says the same, or is right on that class alone."""
    labels = (torch.arange(400) >= 400 * share).long()
    found, why = match(OwnHead(logits_of(torch.zeros(400, dtype=int), 2), None), labels, ("a", "b"))
    assert found is None and f"reproduces {100 * share:.1f} % of the labels" in why


def test_a_skewed_set_is_matched_by_its_rare_classes_too():
    labels = torch.tensor([0] * 360 + [1] * 40)
    answers = labels.clone()
    answers[::20] = 1 - answers[::20]
    found, why = match(OwnHead(logits_of(answers, 2), None), labels, ("a", "b"))
    assert torch.equal(found.labels, labels)
    assert "reproduces 95.0 % of the labels, taken in text order (95.0 % on the mean of the " \
        "classes, by chance 50.0)" in why


@pytest.mark.parametrize("key, called", [(str, "in text order"), (int, "in numeric order")])
@pytest.mark.parametrize("form", ["{}", "class_{}"])
def test_natural_orders_of_names(key, called, form):
    """1, 10, 11, 12, 2 … or 1, 2, 3 …; half of the rows are of one class."""
    order = sorted(TWELVE, key=key)
    given = ["1"] * 120 + list(TWELVE) * 10
    names = tuple(form.format(name) for name in TWELVE)
    labels = torch.tensor([TWELVE.index(name) for name in given])
    answers = torch.tensor([order.index(name) for name in given])
    found, why = match(OwnHead(logits_of(answers, 12), None), labels, names)
    assert f"it reproduces 100.0 % of the labels, taken {called}" in why
    assert found.class_names == tuple(form.format(name) for name in order)
    assert [found.class_names[at] for at in found.labels] == [form.format(name) for name in given]


def test_numbers_of_columns_where_a_class_has_no_rows():
    """Five classes by the head, four in the data."""
    labels = torch.arange(40) % 4
    numbers = torch.tensor([0, 1, 2, 4])
    for names in (None, list("vwxyz")):
        found, why = match(OwnHead(logits_of(numbers[labels], 5), names), labels,
                           ("0", "1", "2", "4"))
        if names is None:
            assert torch.equal(found.labels, numbers[labels]) and len(found.class_names) == 5
            assert "taken as the numbers of its columns" in why
        else:
            assert found is None and "knows no class '0'" in why


def test_names_that_are_not_of_the_columns_are_passed_over():
    labels = torch.arange(40) % 4
    found, why = match(OwnHead(logits_of(labels, 4), list("abcde")), labels, tuple("abcd"))
    assert found.class_names == tuple("abcd") and torch.equal(found.labels, labels)
    assert why.endswith("; its 5 class names are not of its 4 columns")


def test_more_columns_than_classes_without_names():
    found, why = match(OwnHead(torch.rand(40, 5), None), torch.arange(40) % 4, tuple("abcd"))
    assert found is None and why == "the network's head has 5 classes, the data have 4"
