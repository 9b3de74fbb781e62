"""What is suggested for each row, and why: one answer for every table and for the page.

An outlier is dropped and not relabelled; of a group of copies one row stays, the one whose label is
the least suspect; any other label issue is relabelled. Nothing is suggested for a row that has been
reviewed, and of copies it is the one that stays.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from experiment.inputs.samples import DROP, RELABEL
from experiment.run.result import Result


class Actions(NamedTuple):
    """All (N,), of rows as in the data."""

    is_issue: np.ndarray  # bool: the label is estimated to be wrong
    is_outlier: np.ndarray  # bool
    copy_of: np.ndarray  # int64: the row that stays of its copies, -1 for a row that stays itself
    is_conflict: np.ndarray  # bool: its copies have several labels
    is_misspelt: np.ndarray  # bool: the name of its class is probably a typing error

    def suggested(self) -> np.ndarray:
        """"drop", "relabel", or "" for nothing to do."""
        gone = self.is_outlier | (self.copy_of >= 0)
        return np.where(gone, DROP, np.where(self.is_issue, RELABEL, "")).astype(object)

    def reasons(self, index: np.ndarray) -> np.ndarray:
        """Why, in words, joined by "; "; `index` (N,): the row numbers in the full data."""
        words = np.full(len(self.is_issue), "", dtype=object)
        copy_of = np.array([f"copy of row {index[row]}" if row >= 0 else ""
                            for row in self.copy_of.tolist()], dtype=object)
        for which, word in ((self.is_issue & ~self.is_misspelt, "wrong label"),
                            (self.is_misspelt, "misspelt class name"),
                            (self.is_outlier, "outlier"), (self.copy_of >= 0, copy_of),
                            (self.is_conflict, "copies with several labels")):
            before = np.where(words == "", "", words + "; ")
            words = np.where(which, before + word, words)
        return words


def of(result: Result) -> Actions | None:
    """None for outliers among test rows."""
    if result.finds_outliers:
        return None
    n, whole = len(result.samples), result.whole_set
    is_issue, no = label_issues(result), np.zeros(n, dtype=bool)
    if whole is None:
        return Actions(is_issue, no, np.full(n, -1), no, no)
    is_open = ~result.samples.is_settled.numpy()
    is_misspelt = (whole.spelled != result.samples.labels).numpy() & is_open
    is_outlier = whole.outliers.is_outlier.numpy() & is_open
    copy_of = np.full(n, -1) if whole.copies is None else \
        _copy_of(whole.copies.groups, is_open, is_outlier, result.listed_score)
    return Actions(is_issue | is_misspelt, is_outlier, copy_of,
                   whole.is_conflict.numpy() & is_open, is_misspelt)


def label_issues(result: Result) -> np.ndarray:
    """Which labels are estimated to be wrong (N,) bool.

    As many as are estimated to be wrong, of those for which another label is suggested; without
    that estimate the noisy set of the relation, or on the user's own data none where that holds
    more than half of the rows.
    """
    if result.verdict is None:
        noisy = result.relation_score.numpy() > result.settings.noise_threshold
        noisy &= not result.samples.own_data or 2 * noisy.sum() <= len(noisy)
        return noisy & ~result.samples.is_settled.numpy()
    order = result.most_suspect(len(result.samples)).numpy()
    replaced = order[(result.verdict.suggested_labels != result.samples.labels).numpy()[order]]
    is_issue = np.zeros(len(result.samples), dtype=bool)
    known = result.samples.decisions.count(RELABEL)
    is_issue[replaced[:result.further["estimated_wrong"] - known]] = True
    return is_issue


def _copy_of(groups: Tensor, is_open: np.ndarray, is_outlier: np.ndarray, score: Tensor
             ) -> np.ndarray:
    groups = groups.numpy()
    order = np.lexsort((np.arange(len(groups)), score.numpy(), is_outlier, is_open, groups))
    order = order[groups[order] >= 0]
    _, first = np.unique(groups[order], return_index=True)
    stays = order[first][groups[order]]  # groups are numbered from 0 on, without a gap
    copy_of = np.full(len(groups), -1)
    copy_of[order] = np.where((stays == order) | ~is_open[order], -1, stays)
    return copy_of
