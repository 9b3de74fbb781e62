"""A folder of images with a folder for each class as what is to be cleaned.

labels.csv (path,label) points to the original images, or to those below images/: a tree of class
folders with copies of them, or links to them.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from experiment.cleaning.plan import Data, Plan
from experiment.cleaning.table_data import base_of
from experiment.command.errors import InputError
from experiment.inputs.own_data import Rows, abbreviated

TABLE, TREE = "labels.csv", "images"
COPY, LINK = "copy", "link"


def of_folder(source: Path, files: Sequence[Path], rows: Rows, tree: str | None) -> Data:
    """`files` (N,) of the folder, all of them in `rows`; `tree`: COPY, LINK, or None for none."""
    return Data(source, rows.names, rows.labels,
                write=partial(_write, source, files, rows, tree))


def _write(source: Path, files: Sequence[Path], rows: Rows, tree: str | None, folder: Path,
           plan: Plan) -> tuple[list[str], list[str]]:
    labels = {row: plan.labels.get(row, rows.labels[row]) for row in plan.kept}
    outside = [rows.names[row] for row in plan.kept if _leads_out(files[row], source)]
    notes = []
    if tree is None:
        base = base_of(source, folder)
        paths = {row: os.path.join(base, rows.names[row]) for row in plan.kept}
        written = [TABLE]
        how = "their paths are those of the links"
    else:
        places = _places(rows, plan)
        _check_there({row: files[row] for row in plan.kept}, rows)
        for row, place in places.items():
            target = folder / TREE / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if tree == COPY:
                shutil.copy2(files[row], target)
            else:
                target.symlink_to(os.path.realpath(files[row]))
        paths = {row: f"{TREE}/{place}" for row, place in places.items()}
        written = [TABLE, f"{TREE}/"]
        how = "what they lead to is copied" if tree == COPY else "the new links lead there, too"
    if outside:
        notes.append(f"{len(outside)} images are links that lead out of {source} "
                     f"({abbreviated(outside)}); {how}")
    _write_table(folder / TABLE, paths, labels)
    return written, notes


def _places(rows: Rows, plan: Plan) -> dict[int, PurePosixPath]:
    """Where each row lies in the tree: class folder, then the path within its old class folder.

    A row that moves to another class where its name is taken gets its old class into its name.
    """
    staying = [row for row in plan.kept if row not in plan.labels]
    places = {row: PurePosixPath(rows.names[row]) for row in staying}
    # Two names that differ by case are one on some systems.
    taken = {str(place).casefold() for place in places.values()}
    for row in sorted(plan.labels):
        old, *rest = PurePosixPath(rows.names[row]).parts
        place = PurePosixPath(_class_folder(plan.labels[row]), *rest)
        stem, number = place.stem, 1
        while str(place).casefold() in taken:
            place = place.with_stem(f"{stem}_from_{old}{'' if number == 1 else f'_{number}'}")
            number += 1
        taken.add(str(place).casefold())
        places[row] = place
    return dict(sorted(places.items()))


def _class_folder(label: str) -> str:
    """InputError for a label that is no name of a folder that detect.py reads as a class."""
    if "/" in label or "\0" in label or label.startswith("."):
        raise InputError(f"new_label {label!r}: expected the name of a folder for --copy and "
                         f"--link, without / and no . in front")
    return label


def _check_there(files: dict[int, Path], rows: Rows) -> None:
    gone = [rows.names[row] for row, path in files.items() if not path.is_file()]
    if gone:
        raise InputError(f"{rows.source}: no file behind {abbreviated(gone)}; remove such links, "
                         f"or decide to drop them")


def _leads_out(path: Path, source: Path) -> bool:
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source))


def _write_table(path: Path, paths: dict[int, str], labels: dict[int, str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(("path", "label"))
        for row, name in paths.items():
            try:
                f"{name}{labels[row]}".encode()
            except UnicodeEncodeError as error:
                raise InputError(f"{name}: this name is no Unicode, so that no table can hold it; "
                                 f"rename it") from error
            table.writerow((name, labels[row]))
