"""Everything that the page shows, as one dictionary of plain values.

Rows are in the order of the listed score, the most suspect first, as columns: a hundred thousand
of them are a few megabytes. A label is a number in `classes`, a picture a number in `media`.
"""

from typing import Any

from torch import Tensor

from experiment.report import actions
from experiment.report.page import findings, plots
from experiment.report.page.evidence import SHORTEST_NAME, cut, find, leave_one_out, shown
from experiment.report.page.gallery import Gallery
from experiment.report.page.maps import maps
from experiment.run.result import Result

ROWS = 100_000  # listed at most: more are in scores.csv
SHOWN = {"image": 200, "text": 200, "sound": 50, None: 200}  # suspects with media and evidence
MEDIA_SIZE = 19_000_000  # characters, where --show did not ask for more
NAMES_SIZE = 6_000_000  # characters


def contents(result: Result, options: dict[str, Any], show: int | None, *, progress: bool = False
             ) -> dict[str, Any]:
    """What page.js reads. `show`: suspects with media and evidence; None: as many as are handy."""
    order = result.most_suspect(len(result.samples))
    listed = order[:ROWS]
    gallery, advice = Gallery(), actions.of(result)
    suspects = _suspects(result, listed, gallery, show, progress=progress)
    relation_maps = maps(result, gallery)
    also = {} if advice is None else findings.also(result, advice, listed, gallery, len(suspects),
                                                   show, progress=progress)
    samples, outliers = result.samples, result.finds_outliers
    return {
        "title": "Outliers" if outliers else "Label errors",
        "source": samples.source,
        # Of the decisions that a browser keeps: the same for the same data, however listed.
        "key": f"{result.fingerprint} {'outliers' if outliers else 'labels'}",
        "facts": _facts(result),
        "summary": [_origin(result), *_statement(result)],
        "notes": [*result.notes, *_unshown(gallery)],
        "settings": {key: str(value) for key, value in options.items() if value is not None},
        "score": result.listed_by,
        "words": result.words,
        "metrics": result.metrics,
        "histogram": plots.histogram(result),
        "curves": plots.curves(result, progress=progress),
        "classes": [samples.class_name(label) for label in range(samples.probs.shape[1])],
        "total": len(order),
        "rows": _rows(result, order),
        "findings": findings.of(result, advice, listed),
        "reviewed": [list(row) for row in samples.reviewed],  # exported again
        "suspects": suspects,
        "also": also,
        "threshold": result.settings.threshold,
        "evidence": "" if leave_one_out(result) is None else
        "Evidence: relations on leave-one-out probabilities, in which a row's own label has no "
        "say; the model's own cannot be trusted here.",
        "maps": relation_maps,
        "media": gallery.entries,
    }


def _suspects(result: Result, listed: Tensor, gallery: Gallery, show: int | None, *,
              progress: bool) -> list[dict]:
    """Media and evidence of the first suspects."""
    rows = listed[:max(SHOWN.values()) if show is None else show]
    if show is None:
        for row in rows.tolist():  # the first that can be shown tells how many will be
            gallery.add(result.samples, row)
            if gallery.kind:
                break
        rows = rows[:SHOWN[gallery.kind]]
    suspects = []
    for row, evidence in zip(rows.tolist(), find(result, rows, progress=progress)):
        suspects.append(shown(result, row, evidence, gallery))
        if show is None and gallery.size > MEDIA_SIZE:
            break
    return suspects


def _rows(result: Result, order: Tensor) -> dict[str, list | None]:
    """One list per column, None where there is no such column; of the first rows of `order`."""
    samples, verdict = result.samples, result.verdict
    listed = order[:ROWS]
    longest = max(SHORTEST_NAME, NAMES_SIZE // max(1, len(listed)))
    names = None if samples.ids is None else [samples.ids[row] for row in listed.tolist()]
    is_cut = [int(len(name) > longest) for name in names or []]

    def of(values: Tensor | None) -> list | None:
        return None if values is None else values[listed].tolist()

    return {
        "index": of(samples.index),
        "name": names and [cut(name, longest) for name in names],
        "cut": is_cut if any(is_cut) else None,
        "score": [float(f"{value:.4g}") for value in result.listed_score[listed].tolist()],
        "given": of(samples.labels),
        "predicted": of(result.predicted),
        "voted": of(verdict and verdict.voted_labels),
        "suggested": of(verdict and verdict.suggested_labels),
        "auto": None if result.listed_by == "auto" or "auto" not in result.scores else of(
            (-result.scores["auto"]).argsort(stable=True).argsort()),  # places, the most suspect 0
        "positive": None if result.is_positive is None else
        result.is_positive[listed].int().tolist(),
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    """Name and figure of what matters at first sight."""
    samples, name = result.samples, result.listed_by
    facts = [("rows", f"{len(samples):,}"), ("classes", f"{samples.probs.shape[1]:,}")]
    if result.verdict is not None and result.verdict.facts["wrong_between"] is not None:
        wrong = result.verdict.facts["estimated_wrong"]
        facts.append(("labels estimated wrong", f"{wrong:,} ({100 * wrong / len(samples):.1f} %)"))
    if samples.reviewed:
        facts.append(("reviewed", f"{len(samples.reviewed):,}"))
    facts += findings.counts(result)
    for row in result.metrics:
        if row["name"] == name and row["group"] == "all" and row["auroc"] is not None:
            facts += [(f"AUROC of {name}", f"{row['auroc']:.3f}"),
                      (f"average precision of {name}", f"{row['ap']:.3f}")]
    return facts


def _origin(result: Result) -> str:
    """Where the probabilities come from, which decides how far they can be believed."""
    if result.train is not None:
        return (f"Out-of-sample probabilities: test rows, compared with {len(result.train):,} "
                f"training rows ({result.train.source}).")
    if result.relation_name == "relation (loo)":
        return ("Out-of-sample probabilities: leave-one-out, in which a row's own label has no "
                "say.")
    if result.samples.out_of_sample:
        return f"Out-of-sample probabilities: {result.samples.out_of_sample}."
    return {
        True: "Out-of-sample probabilities: the network was trained on other rows.",
        False: "In-sample probabilities: the network was trained on these rows and labels, and "
               "may have memorised what is wrong (--probs loo takes leave-one-out ones).",
        None: "Probabilities as they were given: whether the network was trained on these rows is "
              "not known.",
    }[result.samples.held_out]


def _statement(result: Result) -> list[str]:
    """What the out-of-sample scores tell, as sentences."""
    lines = [line for found in (result.verdict, result.whole_set) if found is not None
             for line in found.statement]
    return [f"{line[0].upper()}{line[1:]}.".replace("\n", " ") for line in lines]


def _unshown(gallery: Gallery) -> list[str]:
    count = len(gallery.problems)
    more = f"; and {count - 5} more" if count > 5 else ""
    return [f"{count} of {len(gallery.entries)} samples could not be shown: "
            f"{'; '.join(gallery.problems[:5])}{more}"] if count else []
