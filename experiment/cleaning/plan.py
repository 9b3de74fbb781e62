"""Which rows get another label and which go, once it is sure that they are the rows decided on.

N rows. Row numbers are those of detect.py: they count all rows of the data from 0.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiment.cleaning.decisions import DROP, RELABEL, Decision
from experiment.command.errors import InputError
from experiment.command.escaping import plain, written_forms
from experiment.inputs.own_data import abbreviated

LONGEST_NAME = 60  # characters of a name in a message


@dataclass(frozen=True)
class Plan:
    """What becomes of the rows."""

    kept: tuple[int, ...]  # row numbers that stay, ascending
    labels: dict[int, str]  # row number -> new label, of rows that stay
    reasons: dict[int, str]  # row number -> why, of every row with a new label or that goes
    notes: tuple[str, ...]  # for the screen


@dataclass(frozen=True)
class Listed:
    """What was decided on: all rows of the data."""

    source: Path
    names: Sequence[str]  # (N,)
    labels: Sequence[str]  # (N,) as given, "" where there is none
    texts: Sequence[str] | None = None  # (N,)
    classes: Sequence[str] | None = None  # where no others are possible


@dataclass(frozen=True, kw_only=True)
class Data(Listed):
    """What is to be cleaned, and how the cleaned copy is written."""

    # Writes the rows of a plan to a folder; returns the names of the files, and notes.
    write: Callable[[Path, Plan], tuple[list[str], list[str]]]


def make(data: Listed, decisions: Sequence[Decision]) -> Plan:
    """Check every decision against its row, and gather what changes.

    Raises InputError, with names, for decisions on rows that are not the same any more, for a new
    label that is no class where others are impossible, and where no row would be left.
    """
    changed = [problem for decision in decisions if (problem := _difference(data, decision))]
    if changed:
        raise InputError(f"{data.source}: not the rows that were decided on: "
                         f"{abbreviated(changed, '; ')}")
    class_of = _Classes(data)
    labels, reasons = {}, {}
    for decision in decisions:
        if decision.action == RELABEL:
            label = class_of(decision)
            if label != data.labels[decision.row]:
                labels[decision.row] = label
                reasons[decision.row] = decision.reason
        elif decision.action == DROP:
            reasons[decision.row] = decision.reason
    kept = tuple(row for row in range(len(data.names)) if row not in reasons or row in labels)
    if not kept:
        raise InputError(f"{data.source}: all {len(data.names)} rows are dropped; nothing would be "
                         f"left")
    return Plan(kept, labels, reasons, tuple(_notes(data, kept, labels)))


def _notes(data: Listed, kept: Sequence[int], labels: dict[int, str]) -> list[str]:
    before = Counter(filter(None, data.labels))
    after = Counter(filter(None, (labels.get(row, data.labels[row]) for row in kept)))
    notes = [f"new class {name!r}: {after[name]} of the rows" for name in after
             if name not in before]
    return notes + [f"no row is left of class {name!r}" for name in before if name not in after]


def _difference(data: Listed, decision: Decision) -> str:
    """How the row differs from the one decided on; "" where it does not."""
    row = decision.row
    if row >= len(data.names):
        return f"{decision.place}: row {row} of {len(data.names)}"
    name, label = data.names[row], data.labels[row]
    if decision.name and decision.name not in written_forms(name):
        return f"{decision.place}: row {row} is {_cut(name)}, was {_cut(decision.name)}"
    # A network's own classes may be written in other cases.
    forms = {form.casefold() for form in written_forms(label)}
    if decision.given_label and decision.given_label.casefold() not in forms:
        return (f"{decision.place}: row {row}, {_cut(name)}, has label {label!r}, had "
                f"{decision.given_label!r}")
    if decision.text and data.texts is not None \
            and decision.text not in written_forms(data.texts[row]):
        return f"{decision.place}: row {row}, {_cut(name)}, has another text"
    return ""


def _cut(name: str) -> str:
    return repr(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME - 1]}…")


@dataclass
class _Classes:
    """The class that a new label names: as the data spell it, where they have it."""

    data: Listed
    forms: dict[str, str] = field(default_factory=dict)
    folded: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.data.classes or sorted(set(filter(None, self.data.labels)))
        for name in names:
            self.forms |= dict.fromkeys(written_forms(name), name)
            self.folded.setdefault(name.casefold(), []).append(name)
        self.forms |= {name: name for name in names}

    def __call__(self, decision: Decision) -> str:
        written = decision.new_label
        if written in self.forms:
            return self.forms[written]
        label = plain(written).strip()
        alike = self.folded.get(label.casefold(), [])
        if len(alike) == 1:
            return alike[0]
        if self.data.classes:
            raise InputError(f"{decision.place}: new_label {label!r} is no class of "
                             f"{self.data.source}; it has "
                             f"{abbreviated([repr(name) for name in self.data.classes])}")
        return label
