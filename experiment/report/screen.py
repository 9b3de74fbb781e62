"""What a run prints: notes, the table of metrics, and the most suspect rows."""

from pathlib import Path

from experiment.command.escaping import printable
from experiment.run.memory import peak_memory_mib
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
    if result.beyond is not None:
        print(*result.beyond.statement, sep="\n")
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
    samples, order, (name, score) = result.samples, result.most_suspect(LISTED), result.listed_by
    labels = {} if samples.labels is None else {"given": samples.labels}
    if result.beyond is None:
        labels["predicted"] = samples.probs.argmax(1)
    else:
        labels["suggested"] = result.beyond.suggested_labels
    texts = zip(*(_padded([word, *map(samples.class_name, numbers[order])])
                  for word, numbers in labels.items()))
    print(f"the {len(order)} most suspect rows, by {name} "
          f"({'auto_rank' if name == 'auto' else 'rank'} in scores.csv)")
    print(f" rank    index     score  {'  '.join(next(texts))}  {result.truth or ''}".rstrip())
    for rank, (row, words) in enumerate(zip(order.tolist(), texts), 1):
        truth = "" if result.truth is None else \
            "  yes" if getattr(samples, result.truth)[row] else "  no "
        name = "" if samples.ids is None else f"  {printable(samples.ids[row])}"
        print(f"{rank:5}  {int(samples.index[row]):7}  {float(score[row]):8.4g}  "
              f"{'  '.join(words)}{truth}{name}".rstrip())


def _padded(names: list[str]) -> list[str]:
    """All as wide as the widest, which is cut where it is too wide for a column."""
    names = [printable(name) for name in names]
    width = min(max(map(len, names)), WIDEST)
    return [(name if len(name) <= width else name[:width - 1] + "…").ljust(width)
            for name in names]
