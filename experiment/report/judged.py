"""judged.csv: test rows judged by the threshold of an earlier run."""

from pathlib import Path

from experiment.files import writing
from experiment.inputs.samples import Samples
from experiment.report import csv_rows
from experiment.report.shared_columns import identity
from experiment.run.ood_threshold import Judgement

JUDGED = "judged.csv"


def write(test: Samples, judgement: Judgement, folder: Path) -> None:
    """index, id, relation_score (higher = more outlying) and is_outlier of every row, in order."""
    with writing.locked(folder):
        csv_rows.write(folder / JUDGED, {
            **identity(test),
            "relation_score": judgement.scores.numpy(),
            "is_outlier": judgement.is_ood.numpy()})
