"""What the page's tabs show beside wrong labels: outliers, copies, rows that were left out.

A row's findings are bits of one number. Of outliers and copies the first ones have media, as the
first suspects have.
"""

from typing import Any

import numpy as np
from torch import Tensor

from experiment.report.actions import Actions
from experiment.report.page.evidence import find, shown
from experiment.report.page.gallery import Gallery
from experiment.run.result import Result

ISSUE, OUTLIER, COPY, COPIED, CONFLICT, MISSPELT = (2**bit for bit in range(6))
TABS = (("Wrong labels", ISSUE, "rank"), ("Outliers", OUTLIER, "outlier"),
        ("Duplicates", COPIED, "copies"))  # name, bit, what its rows are sorted by
WORDS = {ISSUE: "wrong label", MISSPELT: "misspelt class name", OUTLIER: "outlier",
         CONFLICT: "copies with several labels"}
FIRST = 100  # outliers, and rows with copies, that have media
SIZE = 3_000_000  # characters that these add at most
LEFT_OUT = 1000  # listed; metrics.json has them all


def of(result: Result, advice: Actions | None, listed: Tensor) -> dict[str, Any]:
    """What tabs.js reads. Lists are of the listed rows, in their order; None where all are 0."""
    tabs, columns = [], dict.fromkeys(("bits", "outlier", "group", "copies", "copy_of"))
    if advice is not None:
        rows = listed.numpy()
        bits = _bits(result, advice)
        tabs = [{"name": name, "bit": bit, "sort": sort, "count": int((bits & bit > 0).sum())}
                for name, bit, sort in TABS]
        columns["bits"] = bits[rows].tolist() if bits.any() else None
        if result.whole_set is not None:
            columns["outlier"] = [float(f"{value:.3g}") for value in
                                  result.whole_set.outliers.scores.numpy()[rows].tolist()]
        if (bits & COPIED).any():
            index = result.samples.index.numpy()
            copies = result.whole_set.copies.groups.numpy()
            columns |= {"group": copies[rows].tolist(),
                        "copies": _places(advice, copies)[rows].tolist(),
                        "copy_of": np.where(advice.copy_of < 0, -1, index[advice.copy_of])
                        [rows].tolist()}
    return {"tabs": tabs, "words": WORDS, "drop": OUTLIER | COPY, "relabel": ISSUE | MISSPELT,
            "copy": COPY, **columns,
            "left_out": [list(row) for row in result.samples.left_out[:LEFT_OUT]]}


def also(result: Result, advice: Actions, listed: Tensor, gallery: Gallery, suspects: int,
         show: int | None, *, progress: bool = False) -> dict[int, dict]:
    """Media and evidence of the first outliers and copies beyond the first `suspects` rows, by
    their place in the list."""
    if result.whole_set is None:
        return {}
    most = FIRST if show is None else show
    rows = listed.numpy()
    outliers = np.flatnonzero(advice.is_outlier[rows])
    outliers = outliers[np.argsort(-result.whole_set.outliers.scores.numpy()[rows[outliers]],
                                   kind="stable")][:most]
    copied = np.flatnonzero((_bits(result, advice) & COPIED)[rows])
    if len(copied):
        place = _places(advice, result.whole_set.copies.groups.numpy())
        copied = copied[np.argsort(place[rows[copied]], kind="stable")][:most]
    places = [at for at in dict.fromkeys([*outliers.tolist(), *copied.tolist()]) if at >= suspects]
    limit, entries = gallery.size + SIZE, {}
    for at, evidence in zip(places, find(result, listed[places], progress=progress)):
        if gallery.size > limit:
            break
        entries[at] = shown(result, int(listed[at]), evidence, gallery)
    return entries


def counts(result: Result) -> list[tuple[str, str]]:
    """Name and figure of each finding, for the header."""
    whole, facts = result.whole_set, []
    if whole is not None:
        facts.append(("outliers", f"{int(whole.outliers.is_outlier.sum()):,}"))
        if whole.copies is not None:
            facts.append(("rows with copies", f"{int(whole.copies.sizes.sum()):,}"))
            conflicts = whole.facts["duplicates"]["conflicts"]
            facts += [("groups of several labels", f"{conflicts:,}")] if conflicts else []
        if whole.same_names:
            facts.append(("misspelt classes", f"{len(whole.same_names):,}"))
    if result.leakage is not None:
        facts.append(("copies of training rows", f"{int((result.leakage.rows >= 0).sum()):,}"))
    left_out = len(result.samples.left_out)
    return facts + ([("left out", f"{left_out:,}")] if left_out else [])


def _bits(result: Result, advice: Actions) -> np.ndarray:
    """(N,) int64."""
    whole = result.whole_set
    has_copy = np.zeros(len(advice.is_issue), dtype=bool) if whole is None or whole.copies is None \
        else (whole.copies.groups >= 0).numpy() & ~result.samples.is_settled.numpy()
    return sum(bit * which.astype(np.int64) for bit, which in (
        (ISSUE, advice.is_issue), (OUTLIER, advice.is_outlier), (COPY, advice.copy_of >= 0),
        (COPIED, has_copy), (CONFLICT, advice.is_conflict), (MISSPELT, advice.is_misspelt)))


def _places(advice: Actions, groups: np.ndarray) -> np.ndarray:
    """(N,) the order of the tab: groups of several labels first, of each the row that stays."""
    place = np.empty(len(groups), dtype=np.int64)
    place[np.lexsort((advice.copy_of >= 0, groups, ~advice.is_conflict))] = np.arange(len(groups))
    return place
