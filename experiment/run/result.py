"""What was found: `run` makes it, and `report` reads it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from experiment.inputs.samples import BLOCK, Samples
from experiment.run.relation_maps import Maps
from experiment.run.settings import Settings
from experiment.run.verdict import Verdict
from experiment.run.whole_set import WholeSet
from relation import Leakage


@dataclass(frozen=True)
class Result:
    """All tensors on the CPU, over the kept rows."""

    samples: Samples  # the kept rows
    settings: Settings
    scores: dict[str, Tensor]  # printed name -> (N,) higher = more suspicious, as printed
    is_positive: Tensor | None  # (N,) bool: which are wrong, or outliers, where known
    metrics: list[dict]  # name, group, auroc, ap, tnr95, fpr95
    fingerprint: str
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)  # lines for the screen
    further: dict[str, Any] = field(default_factory=dict)  # more entries of metrics.json
    verdict: Verdict | None = None  # label errors only
    relation_name: str = "relation"  # of `scores`, the one that is reported as relation_score
    whole_set: WholeSet | None = None  # label errors only
    leakage: Leakage | None = None  # test rows that are copies of training rows, outliers only
    train: Samples | None = None  # what the rows were related to; None: to each other
    maps: Maps | None = None  # of the most suspect rows, where several epochs are known

    @cached_property
    def predicted(self) -> Tensor:
        """Class of largest probability of each row (N,) int64."""
        probs = self.samples.probs
        labels = torch.empty(len(probs), dtype=torch.int64)
        for found, block in zip(labels.split(BLOCK), probs.split(BLOCK)):
            # numpy finds it at a third of the time.
            found.copy_(torch.from_numpy(block.float().numpy().argmax(1)))
        return labels

    @property
    def relation_score(self) -> Tensor:
        return self.scores[self.relation_name]

    @property
    def finds_outliers(self) -> bool:
        """Outliers are looked for without labels, wrong labels with them."""
        return self.samples.labels is None

    @property
    def truth_name(self) -> str:
        """What the column of the known truth is called."""
        return "is_ood" if self.finds_outliers else "is_noisy"

    @property
    def words(self) -> tuple[str, str]:
        """What to call a negative and a positive row."""
        return ("ID", "OOD") if self.finds_outliers else ("clean", "wrong")

    @property
    def listed_by(self) -> str:
        """The score by which suspects are listed: of the user's own data `auto`."""
        own = self.samples.own_data and "auto" in self.scores
        return "auto" if own else self.relation_name

    @property
    def listed_score(self) -> Tensor:
        return self.scores[self.listed_by]

    def most_suspect(self, count: int) -> Tensor:
        """The first rows in the order of the listed score that nobody has reviewed; equal ones in
        the order of the rows."""
        order = (-self.listed_score).argsort(stable=True)
        return order[~self.samples.is_settled[order]][:count]
