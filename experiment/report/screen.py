"""What a run prints: notes, the table of metrics, and the most suspect rows.

Scores stand in the order of `Result.scores`: experiment/run/label_errors.py lists them; of outliers
they are the baselines of experiment.run.ood_baselines, relation and auto.
"""

from pathlib import Path

from experiment.command.escaping import printable
from experiment.command.watch import peak_memory_mib
from experiment.inputs.samples import Samples
from experiment.report.judged import JUDGED
from experiment.run.ood_threshold import Judgement
from experiment.run.result import Result

LISTED = 20  # suspects shown on screen
WIDEST = 24  # characters of a class name there


def show(result: Result, folder: Path, files: list[str], *, verbose: bool) -> None:
    """Print notes, metrics table, the most suspect rows, and where the written files are."""
    samples = result.samples
    print(f"{printable(samples.source)}: rows {len(samples):,}, features "
          f"{samples.features.shape[1]:,}, classes {samples.probs.shape[1]:,}")
    for note in result.notes:
        print(f"note: {printable(note)}")
    if result.verdict is not None:
        print(*result.verdict.statement, sep="\n")
    if result.whole_set is not None:
        print(*map(printable, result.whole_set.statement), sep="\n")
    if result.metrics:
        print()
        _print_metrics(result.metrics, *result.words)
    else:
        print("note: no truth in the data, so nothing to evaluate; scores and ranks are written")
    print()
    _print_suspects(result)
    if verbose:
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
        print(f"\n{seconds}; peak memory {peak_memory_mib():,} MiB")
    print(f"\nwritten to {printable(str(folder))}: {', '.join(files)}")


def show_judgement(test: Samples, judgement: Judgement, folder: Path) -> None:
    """Print how many rows lie beyond the threshold, the most outlying ones, and where it is."""
    count = int(judgement.is_ood.sum())
    print(f"{printable(test.source)}: {count:,} of {len(test):,} rows are outliers: their relation "
          f"score is beyond the saved threshold, which keeps 95 % of the ID rows")
    for row in (-judgement.scores).argsort(stable=True)[:min(LISTED, count)].tolist():
        id_ = "" if test.ids is None else f"  {printable(test.ids[row])}"
        print(f"{int(test.index[row]):7}  {float(judgement.scores[row]):8.4g}{id_}")
    print(f"written to {printable(str(folder))}: {JUDGED}")


def _print_metrics(rows: list[dict], negative: str, positive: str) -> None:
    grouped = len({row["group"] for row in rows}) > 2  # a single set would repeat "all"
    rows = rows if grouped else [row for row in rows if row["group"] == "all"]
    width = max(len(row["name"]) for row in rows)
    head = "group         " * grouped + "score".ljust(width)
    print(f"{head}   AUROC      AP   TNR95   FPR95*")
    for row in rows:
        figures = "".join("       -" if row[key] is None else f"  {row[key]:6.3f}"
                          for key in ("auroc", "ap", "tnr95", "fpr95"))
        print(f"{printable(row['group']):14}" * grouped + row["name"].ljust(width) + figures)
    print(f"TNR95: {negative} rows passed where 95 % of the {positive} ones are found (higher is "
          f"better).\n*FPR95: {positive} rows passed where 95 % of the {negative} ones pass (lower "
          f"is better).")


def _print_suspects(result: Result) -> None:
    samples, order = result.samples, result.most_suspect(LISTED)
    name, score = result.listed_by, result.listed_score
    labels = {} if samples.labels is None else {"given": samples.labels}
    if result.verdict is None:
        labels["predicted"] = result.predicted
    else:
        labels["suggested"] = result.verdict.suggested_labels
    texts = zip(*(_padded([word, *map(samples.class_name, numbers[order])])
                  for word, numbers in labels.items()))
    truth = result.is_positive
    print(f"the {len(order)} most suspect rows, by {name} "
          f"({'auto_rank' if name == 'auto' else 'rank'} in scores.csv)")
    print(f" rank    index     score  {'  '.join(next(texts))}  "
          f"{'' if truth is None else result.truth_name}".rstrip())
    for rank, (row, words) in enumerate(zip(order.tolist(), texts), 1):
        known = "" if truth is None else "  yes" if truth[row] else "  no "
        id_ = "" if samples.ids is None else f"  {printable(samples.ids[row])}"
        print(f"{rank:5}  {int(samples.index[row]):7}  {float(score[row]):8.4g}  "
              f"{'  '.join(words)}{known}{id_}".rstrip())


def _padded(names: list[str]) -> list[str]:
    """All as wide as the widest, which is cut where it is too wide for a column."""
    names = [printable(name) for name in names]
    width = min(max(map(len, names)), WIDEST)
    return [(name if len(name) <= width else name[:width - 1] + "…").ljust(width)
            for name in names]
