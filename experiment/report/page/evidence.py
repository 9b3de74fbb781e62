"""Evidence for and against a suspect: the rows of its largest and smallest relations."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

import relation
from experiment.inputs.samples import Samples
from experiment.report.page.gallery import Gallery
from experiment.run.result import Result

EACH = 4  # rows on each side
COPIES = 8  # more rows that are asked for where there are copies, which count once
SHORTEST_NAME = 60


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


def find(result: Result, rows: Tensor, *, progress: bool = False) -> list[Evidence]:
    """Evidence for each of `rows` (K,), by r as it is before threshold and power.

    r is on leave-one-out probabilities where the model's own cannot be trusted.

    Without labels nothing contradicts: the support of an outlier are its nearest training rows.
    Costs K times the compared rows, in tiles; features stay memory-mapped.
    """
    if len(rows) == 0:
        return []
    samples, target = result.samples, result.train or result.samples
    labels, loo = samples.labels, leave_one_out(result)
    has_copies = result.whole_set is not None and result.whole_set.copies is not None \
        and len(result.whole_set.copies.sizes) > 0
    probs, target_probs = (samples.probs, target.probs) if loo is None else (loo, loo)
    top, top_at, low, low_at = relation.relation_topk(
        samples.features[rows], probs[rows], None if labels is None else labels[rows],
        target_features=target.features, target_probs=target_probs,
        target_labels=None if labels is None else target.labels, kernel=result.settings.kernel,
        k=min(EACH + COPIES * has_copies, len(target) - 1),  # one more: the row may be among them
        chunk=math.ceil(len(rows) / torch.get_num_threads()), progress=progress)
    groups = None if result.whole_set is None or result.whole_set.copies is None else \
        result.whole_set.copies.groups
    evidence = []
    for place, row in enumerate(rows.tolist()):
        own = row if result.train is None else None
        support = zip(top_at[place].tolist(), top[place].tolist())
        against = zip(low_at[place].tolist(), low[place].tolist())
        evidence.append(Evidence(
            _once([Related(at, r) for at, r in support if r > 0 and at != own], groups, own),
            _once([Related(at, r) for at, r in against if r < 0], groups, None)))
    return evidence


def _once(found: list[Related], groups: Tensor | None, own: int | None) -> list[Related]:
    """The first EACH without copies of row `own`, and of other copies the first one."""
    if groups is None:
        return found[:EACH]
    seen = set() if own is None else {int(groups[own])} - {-1}
    kept = []
    for related in found:
        group = int(groups[related.row])
        if group not in seen:
            kept.append(related)
        if group >= 0:
            seen.add(group)
    return kept[:EACH]


def shown(result: Result, row: int, evidence: Evidence, gallery: Gallery) -> dict[str, Any]:
    """Media and evidence of one row, as the page's script reads them."""
    target = result.train or result.samples

    def entry(found: Related) -> dict[str, Any]:
        return {"media": gallery.add(target, found.row), "r": round(found.r, 4),
                "name": _name(target, found.row),
                "label": None if target.labels is None else int(target.labels[found.row])}

    return {"media": gallery.add(result.samples, row),
            **{side: [entry(found) for found in related]
               for side, related in evidence._asdict().items()}}


def _name(samples: Samples, row: int) -> str:
    return f"row {int(samples.index[row])}" if samples.ids is None else \
        cut(samples.ids[row], SHORTEST_NAME)


def cut(name: str, longest: int) -> str:
    """Both ends, as paths differ in the last part, texts in the first."""
    end = longest // 3
    return name if len(name) <= longest else f"{name[:longest - end - 1]}…{name[-end:]}"
