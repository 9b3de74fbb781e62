"""What was decided about rows: a person's decisions.csv, or the suggestions of suspects.csv.

decisions.csv is what report.html exports: index, id, given_label, given_name, decision, new_label,
new_name, as experiment.report.shared_columns says. Decisions are keep, relabel (with a new
label) and drop. Id and given label are those that the row had when it was decided, and tell later
whether it is still the same. Written by hand, name may stand for id, and labels for their names.
Cells are as they stand in the file, where ' may precede what a spreadsheet would compute.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiment.command.errors import InputError
from experiment.files import separated
from experiment.inputs.samples import DROP, KEEP, RELABEL

ACTIONS = (KEEP, RELABEL, DROP)


class Decision(NamedTuple):
    """One row's. A name, given label or text of "" was not said."""

    row: int  # row number in the data
    action: str
    new_label: str  # "" unless relabelled
    name: str
    given_label: str
    place: str  # file and line
    reason: str
    text: str = ""  # the whole text of a row of texts


class Suggested(NamedTuple):
    """What suspects.csv suggests: decisions, and how many more are below the score asked for."""

    decisions: list[Decision]
    below: int


def read(path: Path) -> list[Decision]:
    """The decisions in the order of the file.

    Raises InputError for a file that is no such table, and by its line for an unknown decision, a
    row number that is none, a new label that is missing or has nothing to relabel, a row that says
    neither its name nor its label, and a row that is decided twice.
    """
    decisions: dict[int, Decision] = {}
    for place, cells in _table(path, ("index", "decision", "new_label"),
                               "the export of report.html"):
        row, action = _row(place, cells["index"]), cells["decision"].strip().lower()
        new_label = _label(cells, "new")
        if action not in ACTIONS:
            raise InputError(f"{place}: decision: expected {', '.join(ACTIONS)}, got "
                             f"{cells['decision']!r}")
        if (action == RELABEL) != bool(new_label.strip()):
            raise InputError(f"{place}: new_label: expected one with relabel, and none with keep "
                             f"or drop, got {new_label!r} with {action}")
        decision = Decision(
            row, action, new_label, cells.get("id") or cells.get("name") or "",
            _label(cells, "given"), place, f"decided in {place}")
        if not decision.name and not decision.given_label:
            raise InputError(f"{place}: neither id nor given_label, so that nobody can tell "
                             f"whether row {row} is still the same")
        if row in decisions:
            raise InputError(f"{place}: row {row} is decided twice, first in "
                             f"{decisions[row].place}")
        decisions[row] = decision
    return list(decisions.values())


def in_words(decisions: Sequence[Decision]) -> str:
    """How many there are of each kind."""
    counts = [f"{sum(one.action == action for one in decisions):,} {action}" for action in ACTIONS]
    return f"{len(decisions):,} decisions: {', '.join(counts)}"


def read_suggestions(path: Path, min_score: float) -> Suggested:
    """What suspects.csv suggests: drop outliers and extra copies, relabel other label issues.

    Without the scores of `auto` what the model predicts is the suggestion.

    `min_score`: of a relabelling the least score, 1 - label_score, higher = more suspicious. Of
    `auto` it is 1 - the probability of the given label.
    Raises InputError for a file that is no such table of label errors.
    """
    decisions, below = [], 0
    for place, cells in _table(path, ("index", "id", "given_label", "is_label_issue",
                                      "label_score"), "suspects.csv of a search for label errors"):
        given, suggested = _label(cells, "given"), \
            _label(cells, "suggested") or _label(cells, "predicted")
        if not suggested:
            raise InputError(f"{place}: neither suggested_label nor predicted_label")
        if cells.get("suggested_action") == DROP:  # of whatever label score
            decisions.append(Decision(
                _row(place, cells["index"]), DROP, "", cells["id"], given, place,
                f"suggested in {place}: {cells.get('reasons', '')}", cells.get("text", "")))
            continue
        if cells["is_label_issue"] != "True" or suggested == given:
            continue
        score = 1 - _score(place, cells["label_score"])
        if score < min_score:
            below += 1
            continue
        decisions.append(Decision(
            _row(place, cells["index"]), RELABEL, suggested, cells["id"], given, place,
            f"suggested in {place} with score {score:.4g}", cells.get("text", "")))
    return Suggested(decisions, below)


def _table(path: Path, needed: Sequence[str], what: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and cells by column of each row. InputError where a column or a cell is missing."""
    records = separated.read(path)
    columns = [name.strip() for name in records[0].fields] if records else []
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(f"{path}: no column {' and '.join(missing)}; found "
                         f"{', '.join(columns) or 'none'} (expected {what})")
    for line, _, fields in records[1:]:
        place = f"{path}, line {line}"
        if len(fields) != len(columns):
            raise InputError(f"{place}: expected {len(columns)} fields as in the header, got "
                             f"{len(fields)}")
        yield place, dict(zip(columns, fields))


def _label(cells: dict[str, str], word: str) -> str:
    """The class's name where it has one, else its number."""
    return cells.get(f"{word}_name") or cells.get(f"{word}_label") or ""


def _row(place: str, text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdecimal()):
        raise InputError(f"{place}: index: expected a row number from 0, got {text!r}")
    return int(text)


def _score(place: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{place}: label_score: expected a number, got {text!r}") from error
