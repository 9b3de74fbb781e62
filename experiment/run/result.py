"""What was found: the pipelines make it, and the reports read it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from experiment.inputs.samples import Samples
from experiment.run.out_of_sample import OutOfSample
from experiment.run.relation_maps import Maps


@dataclass(frozen=True)
class Result:
    """All tensors on the CPU, over the kept rows."""

    samples: Samples  # the kept rows
    relation_score: Tensor  # (N,) higher = more suspicious
    columns: dict[str, Tensor]  # printed name -> further scores (N,)
    truth: str | None  # "is_noisy" or "is_ood", where known
    metrics: list[dict]  # name, group, auroc, ap, tnr95, fpr95
    fingerprint: str
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)  # lines for the screen
    further: dict[str, Any] = field(default_factory=dict)  # more entries of metrics.json
    beyond: OutOfSample | None = None  # label errors only
    relation_name: str = "relation"  # what relation_score is called in the table
    noise_threshold: float | None = None  # of relation_score, above which a label counts as wrong
    kernel: str = "cos_p"
    threshold: float = 0.03  # of a relation, up to which it counts for nothing
    train: Samples | None = None  # what the rows were related to; None: to each other
    maps: Maps | None = None  # of the most suspect rows, where several epochs are known

    @property
    def words(self) -> tuple[str, str]:
        """What to call a negative and a positive row; outliers are looked for without labels."""
        return ("ID", "OOD") if self.samples.labels is None else ("clean", "wrong")

    @property
    def listed_by(self) -> tuple[str, Tensor]:
        """Name and scores (N,) by which suspects are listed: of the user's own data `auto`."""
        if self.samples.own_data and self.beyond is not None:
            return "auto", self.beyond.auto
        return self.relation_name, self.relation_score

    def most_suspect(self, count: int) -> Tensor:
        """The first rows in the order of the listed score; equal ones in the order of the rows."""
        return (-self.listed_by[1]).argsort(stable=True)[:count]

    @property
    def all_scores(self) -> dict[str, Tensor]:
        """Printed name -> scores (N,), as the metrics are of."""
        scores = {**self.columns, self.relation_name: self.relation_score}
        return scores if self.beyond is None else \
            {**scores, **self.beyond.columns, "auto": self.beyond.auto}
