"""The cleaned copy: planned, told on the screen, and written as one new folder."""

import csv
from collections.abc import Sequence
from pathlib import Path

from experiment.cleaning import plan as planning
from experiment.cleaning.decisions import Decision
from experiment.cleaning.plan import Data, Plan
from experiment.command.errors import InputError
from experiment.command.escaping import cell, printable
from experiment.files import new_folder

CHANGES = "changes.csv"


def write(data: Data, decisions: Sequence[Decision], target: Path | None) -> None:
    """Print what changes, and write the cleaned copy and changes.csv to a new folder `target`.

    None: writes nothing. Raises InputError, before anything is written, as `plan.make` does, and
    for a target that is there or lies in a folder of images that is to be cleaned.
    """
    if target is not None and target.absolute().parent.resolve().is_relative_to(
            data.source.resolve()):
        raise InputError(f"{target}: lies in {data.source}, which stays as it is; choose a place "
                         f"outside")
    plan = planning.make(data, decisions)
    n, dropped = len(data.names), len(data.names) - len(plan.kept)
    classes = {plan.labels.get(row, data.labels[row]) for row in plan.kept} - {""}
    _say(f"{data.source}: {n:,} rows, {len(plan.labels):,} relabelled, {dropped:,} dropped; "
         f"{len(plan.kept):,} rows of {len(classes):,} classes are left")
    for note in plan.notes:
        _say(note)
    if target is None:
        _say("dry run: nothing is written")
        return
    with new_folder.making(target) as folder:
        written, notes = data.write(folder, plan)
        if CHANGES in written:
            raise InputError(f"{data.source}: {CHANGES} is the name of the list of changes; rename "
                             f"the table")
        _write_changes(folder / CHANGES, data, plan)
    for note in notes:
        _say(note)
    _say(f"written to {target}: {', '.join([*written, CHANGES])}")


def _write_changes(path: Path, data: Data, plan: Plan) -> None:
    """One line for each row that has another label or is gone."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("index", "name", "given_label", "change", "new_label", "reason"))
        for row, reason in sorted(plan.reasons.items()):
            label = plan.labels.get(row)
            table.writerow((row, *map(cell, (
                data.names[row], data.labels[row], "drop" if label is None else "relabel",
                label or "", reason))))


def _say(line: str) -> None:
    print(printable(line), flush=True)
