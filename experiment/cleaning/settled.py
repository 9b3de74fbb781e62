"""Decisions about rows before label errors are looked for again: what was reviewed is settled.

Rows that were kept or relabelled stay, with their old or new labels, and are trusted; dropped rows
are left out, so that nothing learns from them (`experiment.inputs.samples.Reviewed`). Decisions
hold for the rows that they were made on, as in `plan`.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiment.cleaning import decisions, feature_data
from experiment.cleaning import plan as planning
from experiment.cleaning.decisions import Decision
from experiment.cleaning.plan import Listed, Plan
from experiment.inputs.own_data import Rows
from experiment.inputs.samples import (
    DROPPED,
    KEEP,
    RELABEL,
    LeftOut,
    Reviewed,
    Samples,
)


def rows(found: Rows, path: Path | None) -> Rows:
    """The user's rows as decided in a decisions.csv; as they are without one.

    Decisions on rows that are left out already change nothing. Raises InputError as
    `decisions.read` and `plan.make` do.
    """
    if path is None:
        return found
    decided = decisions.read(path)
    names = dict(zip(found.index, found.names)) | {row.index: row.name for row in found.left_out}
    labels = dict(zip(found.index, found.labels))
    every = range(len(names))
    plan = planning.make(
        Listed(Path(found.source), [names[row] for row in every],
               [labels.get(row, "") for row in every]),
        [one for one in decided if one.row in labels or one.row not in names])
    return replace(found, labels=tuple(plan.labels.get(row, labels[row]) for row in found.index),
                   reviewed=_reviewed(decided, plan, labels),
                   notes=(*found.notes, *_notes(decided, plan)))


def samples(found: Samples, path: Path | None) -> Samples:
    """The same for the rows of a feature file, whose classes are known."""
    if path is None:
        return found
    decided, listed = decisions.read(path), feature_data.listed(found)
    plan = planning.make(listed, decided)
    labels, notes = found.labels.clone(), [*found.notes, *_notes(decided, plan)]
    number = {found.class_name(column): column for column in range(found.probs.shape[1])}
    for row, label in plan.labels.items():
        labels[row] = number[label]
    is_noisy = found.is_noisy
    if plan.labels and is_noisy is not None:
        is_noisy = None
        notes.append("is_noisy is left out: it describes the labels before they were corrected")
    dropped = sorted({*range(len(found))} - {*plan.kept})
    settled = found.derived(
        labels=labels, is_noisy=is_noisy, notes=tuple(notes),
        reviewed=_reviewed(decided, plan, range(len(found))),
        left_out=tuple(LeftOut(row, listed.names[row], DROPPED) for row in dropped))
    return settled.take(torch.tensor(plan.kept)) if dropped else settled


def _reviewed(decided: Sequence[Decision], plan: Plan, known: Container[int]
              ) -> tuple[Reviewed, ...]:
    """A relabelling of a `known` row with the label that it has anyway keeps it."""
    return tuple(
        Reviewed(one.row, one.name, one.given_label, KEEP, "")
        if one.action == RELABEL and one.row in known and one.row not in plan.labels else
        Reviewed(one.row, one.name, one.given_label, one.action, one.new_label)
        for one in decided)


def _notes(decided: Sequence[Decision], plan: Plan) -> list[str]:
    return [f"{decisions.in_words(decided)}; these rows are settled", *plan.notes]
