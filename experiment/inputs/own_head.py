"""Whether a network's own head is one for the user's classes, and which of its columns is which.

Classes are matched by name. Where the head has no names, or quite other ones, its meaning is not
known: it is taken for one of these classes only if it reproduces the labels far better than a head
that never saw them. The orders that people number classes by are tried, and the best must

- reach a balanced accuracy of at least half way from chance, 1 / K, to 1, where K classes have
  rows: a head that always answers the most frequent class reaches chance; and
- pass a binomial test: with answers that do not depend on the label, a row agrees by chance with
  the probability sum_c p_c q_c (p, q: shares of class c among labels and answers), and so many rows
  or more do with a probability of at most ERROR, divided by the number of orders tried.

n rows, C columns.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import binom
from torch import Tensor

from experiment.inputs import given_labels, probe

ERROR = 1e-3  # probability of taking a head that has nothing to do with the labels
LISTED = 5  # classes of the head in a note


class OwnHead(NamedTuple):
    """The network's own head: logits (n, C), and the names of its classes, if any."""

    logits: Tensor
    class_names: Sequence[str] | None
    head: probe.Head | None = None  # if it is a linear layer on the features
    features: Tensor | None = None  # (n, D) that enter the head, if not those for the probe


class Matched(NamedTuple):
    """logits (n, C), class names (C,) and labels (n,) in the order of the head's columns."""

    logits: Tensor
    class_names: tuple[str, ...]
    labels: Tensor


def match(own: OwnHead | None, labels: Tensor, names: tuple[str, ...]
          ) -> tuple[Matched | None, str]:
    """The user's classes in the head's columns, or None if it is for others; and why, in words.

    labels (n,) count `names`, each of which has rows.
    """
    if own is None:
        return None, "the network has no head of its own"
    classes, but = own.logits.shape[1], ""
    if own.class_names is not None and len(own.class_names) != classes:
        but = f"; its {len(own.class_names)} class names are not of its {classes} columns"
    elif own.class_names is not None:
        number = {_folded(name): at for at, name in enumerate(own.class_names)}
        unknown = [name for name in names if _folded(name) not in number]
        if not unknown:
            columns = torch.tensor([number[_folded(name)] for name in names])
            return Matched(own.logits, tuple(own.class_names), columns[labels]), \
                "its classes have these names"
        if len(number) != len(names) or len(unknown) < len(names):
            more = len(own.class_names) - LISTED
            listed = ", ".join(map(repr, own.class_names[:LISTED]))
            return None, (f"the network's head knows no class {unknown[0]!r}, but {listed}"
                          + (f", and {more} more" if more > 0 else ""))
    orders = _orders(names, classes)
    if not orders:
        return None, f"the network's head has {classes} classes, the data have {len(names)}{but}"
    found, verdict = _by_agreement(own.logits, labels, names, orders)
    if found is None:
        same = " too" if classes == len(names) else ""
        return None, f"the network's head has {classes} classes{same}, but {verdict}{but}"
    return found, f"it {verdict}{but}"


def _folded(name: str) -> str:
    return given_labels.same_form(name).casefold()


def _orders(names: tuple[str, ...], classes: int) -> dict[str, list[int]]:
    """What an order is called -> the head's column of each name; equal ones once."""
    orders = {}
    if classes == len(names):
        for called, key in (("in text order", None),
                            ("in numeric order", _by_number)):
            ranked = {name: at for at, name in enumerate(sorted(names, key=key))}
            orders[called] = [ranked[name] for name in names]
    if all(re.fullmatch(r"\d{1,9}", name) for name in names):
        columns = [int(name) for name in names]
        if max(columns) < classes and len(set(columns)) == len(names):
            orders["as the numbers of its columns"] = columns
    return {called: columns for at, (called, columns) in enumerate(orders.items())
            if columns not in list(orders.values())[:at]}


def _by_number(name: str) -> list:
    """Sorts class_2 before class_10, and letters of either case alike."""
    parts = re.split(r"(-?\d+)" if re.fullmatch(r"-?\d+", name) else r"(\d+)", name.casefold())
    return [int(part) if at % 2 else part for at, part in enumerate(parts)]


def _by_agreement(logits: Tensor, labels: Tensor, names: tuple[str, ...],
                  orders: dict[str, list[int]]) -> tuple[Matched | None, str]:
    """The classes in the order that the answers agree with best, if far above chance."""
    answers, classes = logits.argmax(1), logits.shape[1]
    rows = labels.bincount(minlength=len(names)).double()
    answered = answers.bincount(minlength=classes).double()
    balanced = {called: float((torch.bincount(
        labels[answers == torch.tensor(columns)[labels]], minlength=len(names)) / rows).mean())
        for called, columns in orders.items()}
    called = max(balanced, key=balanced.get)  # of equals the first
    columns = torch.tensor(orders[called])
    in_head = columns[labels]
    agreed, n = int((answers == in_head).sum()), len(labels)
    by_chance = float((rows * answered[columns]).sum()) / n ** 2
    luck = float(binom.sf(agreed - 1, n, by_chance)) * len(orders)
    chance = 1 / len(names)
    verdict = (f"reproduces {100 * agreed / n:.1f} % of the labels, taken {called} "
               f"({100 * balanced[called]:.1f} % on the mean of the "
               f"classes, by chance {100 * chance:.1f})")
    if balanced[called] < (1 + chance) / 2 or luck > ERROR:
        return None, f"{verdict}, too few to take it for one of these"
    told = dict(zip(orders[called], names))
    return Matched(logits, tuple(told.get(at, str(at)) for at in range(classes)), in_head), verdict
