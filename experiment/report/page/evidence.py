"""Evidence for and against a suspect: the rows of its largest and smallest relations."""

from typing import NamedTuple

from torch import Tensor

import relation
from experiment.run.result import Result

EACH = 4  # rows on each side


class Related(NamedTuple):
    """A row of what the suspects were related to, and its relation r to one of them."""

    row: int
    r: float


class Evidence(NamedTuple):
    """The most related rows of one suspect, the strongest first; either side may be empty."""

    support: list[Related]  # r > 0: alike, and of the same label
    against: list[Related]  # r < 0: alike, and of another


def leave_one_out(result: Result) -> Tensor | None:
    """Probabilities (N, C) to relate rows by in place of the model's; None where those will do.

    A model that has memorised a wrong label relates the row to the class of that label.
    """
    if result.verdict is None or result.settings.kernel != "cos_p":
        return None
    return result.verdict.loo_probs


def find(result: Result, rows: Tensor) -> list[Evidence]:
    """Evidence for each of `rows` (K,), by r as it is before threshold and power.

    r is on leave-one-out probabilities where the model's own cannot be trusted.

    Without labels nothing contradicts: the support of an outlier are its nearest training rows.
    Costs K times the compared rows, in tiles; features stay memory-mapped.
    """
    if len(rows) == 0:
        return []
    samples, target = result.samples, result.train or result.samples
    labels, loo = samples.labels, leave_one_out(result)
    probs, target_probs = (samples.probs, target.probs) if loo is None else (loo, loo)
    top, top_at, low, low_at = relation.relation_topk(
        samples.features[rows], probs[rows], None if labels is None else labels[rows],
        target_features=target.features, target_probs=target_probs,
        target_labels=None if labels is None else target.labels, kernel=result.settings.kernel,
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
