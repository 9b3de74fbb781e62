"""What speaks for a suspect and what against it: the rows of its largest and smallest relations."""

from typing import NamedTuple

from torch import Tensor

import relation
from experiment.pipeline import Result

EACH = 4  # rows on each side


class Related(NamedTuple):
    """A row of what the suspects were related to, and its relation r to one of them."""

    row: int
    r: float


class Evidence(NamedTuple):
    """The most related rows of one suspect, the strongest first; either side may be empty."""

    support: list[Related]  # r > 0: alike, and of the same label
    against: list[Related]  # r < 0: alike, and of another


def find(result: Result, rows: Tensor) -> list[Evidence]:
    """Evidence for each of `rows` (K,), by r as it is before threshold and power.

    Without labels nothing contradicts: the support of an outlier are its nearest training rows.
    Costs K times the compared rows, in tiles; features stay memory-mapped.
    """
    if len(rows) == 0:
        return []
    samples, target = result.samples, result.train or result.samples
    labels = samples.labels
    top, top_at, low, low_at = relation.relation_topk(
        samples.features[rows], samples.probs[rows], None if labels is None else labels[rows],
        target_features=target.features, target_probs=target.probs,
        target_labels=None if labels is None else target.labels, kernel=result.kernel,
        k=min(EACH, len(target) - 1))  # one more is found: the row may be among its own
    evidence = []
    for place, row in enumerate(rows.tolist()):
        own = row if result.train is None else None
        support = zip(top_at[place].tolist(), top[place].tolist())
        against = zip(low_at[place].tolist(), low[place].tolist())
        evidence.append(Evidence(
            [Related(at, r) for at, r in support if r > 0 and at != own][:EACH],
            [Related(at, r) for at, r in against if r < 0][:EACH]))
    return evidence
