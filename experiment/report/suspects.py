"""suspects.csv, and suspects.parquet with pyarrow: the rows as other tools for data load them.

One line for each row, the most suspect first; `shared_columns` and docs/data.md
say what the columns mean. A CSV file is
opened in spreadsheets, which run what looks like a formula: such text gets an apostrophe in front
there (and only there; numbers stay as they are).
"""

import importlib.util
from pathlib import Path

import numpy as np
import pandas

from experiment.files import writing
from experiment.report import actions, csv_rows
from experiment.report.shared_columns import identity, labelled, texts, whole_set
from experiment.run.result import Result

CSV, PARQUET = "suspects.csv", "suspects.parquet"


def write(result: Result, folder: Path, *, progress: bool = False) -> list[str]:
    """Write the files to `folder`; returns their names."""
    frame = table(result)
    csv_rows.write(folder / CSV, {name: frame[name].to_numpy() for name in frame},
                   quote_text=True, end="\n", progress=progress)
    if importlib.util.find_spec("pyarrow") is None:
        (folder / PARQUET).unlink(missing_ok=True)  # of an earlier run: other numbers
        return [CSV]
    # An open file: pyarrow takes no path that is not UTF-8.
    with writing.replacing(folder / PARQUET) as temporary, open(temporary, "wb") as file:
        frame.to_parquet(file, engine="pyarrow", index=False)
    return [CSV, PARQUET]


def table(result: Result) -> pandas.DataFrame:
    """The rows by falling suspicion, as the screen and report.html list them."""
    samples, scores = result.samples, result.listed_score
    order = result.most_suspect(len(samples)).numpy()
    columns = identity(samples)
    columns["id"] = texts(map(str, columns["id"]))
    columns |= {name: texts(values) for name, values in samples.content.items()}
    predicted, advice = result.predicted, actions.of(result)
    if result.finds_outliers:
        columns |= labelled(samples, "predicted", predicted)
        columns["outlier_score"] = scores.numpy()
        columns |= whole_set(result)
    else:
        columns |= labelled(samples, "given", samples.labels)
        columns |= labelled(samples, "predicted", predicted) if result.verdict is None else \
            labelled(samples, "suggested", result.verdict.suggested_labels)
        columns["is_label_issue"] = advice.is_issue
        # As cleanlab has it: from 0, surely wrong, to 1.
        columns["label_score"] = (1 - scores if result.listed_by == "auto" else (1 - scores) / 2) \
            .clamp(0, 1).double().numpy()
        columns |= whole_set(result)
        if result.whole_set is not None:
            columns["reasons"] = advice.reasons(columns["index"])
            columns["suggested_action"] = advice.suggested()
    frame = pandas.DataFrame(columns).iloc[order]
    frame.insert(1, "suspect_rank", np.arange(1, len(order) + 1))
    return frame
