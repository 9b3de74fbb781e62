"""The images of a user's folder, and their classes.

Every file is listed once, also where links lead in circles or twice to the same folder. What is not
used is counted in a note: files that are no pictures by their endings, hidden ones, empty classes.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from experiment.command.errors import InputError
from experiment.files import pictures
from experiment.inputs.own_data import Rows, abbreviated

# Folders that systems and programs make by themselves.
SYSTEMS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
# Names that data sets are split by, as in train/, val_images/, test2017/, fold_1/.
SPLIT = re.compile(r"((images?|imgs?|data)[-_ ]?)?(train|training|trn|val|valid|validation|dev|test"
                   r"|testing|tst|eval|evaluation|holdout|fold|split)"
                   r"([-_ ]?(set|data|images?|imgs?|split))?[-_ ]?\d*", re.IGNORECASE)


class Images(NamedTuple):
    """The files of all rows, and the rows that can be used."""

    files: Sequence[Path]
    rows: Rows


@dataclass
class Tree:
    """What a folder holds, each list sorted as by `ImageFolder`: by folder, then by name."""

    root: Path
    images: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)  # links to what is in the tree already
    closed: list[Path] = field(default_factory=list)  # folders without permission to read them
    folders: list[Path] = field(default_factory=list)  # directly in the root

    def names(self, paths: Sequence[Path]) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in paths]

    def notes(self) -> list[str]:
        """What is not used, and why."""
        notes = [f"{len(self.other)} skipped, not taken for images: "
                 f"{'; '.join(self._by_ending())}"] if self.other else []
        return [*notes, *note(self.names(self.hidden), "skipped, being hidden"),
                *note(self.names(self.again), "skipped, as links to what is there already"),
                *note(self.names(self.closed), "skipped for want of permission to read")]

    def _by_ending(self) -> list[str]:
        counts = Counter(path.suffix.lower() for path in self.other)
        first = {path.suffix.lower(): path for path in reversed(self.other)}
        return [f"{count} {ending or 'without ending'} ({self.names([first[ending]])[0]}"
                f"{', …' if count > 1 else ''}"
                f"{'; needs the package pillow-heif' if ending in ('.heic', '.heif') else ''})"
                for ending, count in counts.most_common()]


def list_folder(folder: Path) -> Images:
    """The images of a folder with a folder for each class, in `ImageFolder` order: sorted by path.

    Raises InputError for a folder without any image in a class, and for one whose folders are not
    classes but splits of a data set.
    """
    tree = walk(folder)
    loose = [path for path in tree.images if path.parent == folder]
    files = [path for path in tree.images if path.parent != folder]
    if not files:
        also = "".join(f"; {text}" for text in tree.notes())
        raise InputError(f"{folder}: expected a folder for each class with images in it, found "
                         f"{len(tree.folders)} folders and no image in them{also}")
    labels = [_class_of(path, folder) for path in files]
    inside = _inner_folders(files, folder)
    _refuse_splits(folder, inside)
    empty = [path for path in tree.folders if path.name not in inside and path not in tree.again]
    notes = (*note([_with_content(path, tree) for path in empty], "without any image"),
             *tree.notes(), *note(tree.names(loose), "left out: not in the folder of a class"),
             *_perhaps_classes(inside))
    return Images(files, Rows.of(str(folder), tree.names(files), labels, notes=notes))


def list_any(folder: Path) -> Images:
    """All images below a folder."""
    tree = walk(folder)
    if not tree.images:
        also = "".join(f"; {text}" for text in tree.notes())
        raise InputError(f"{folder}: expected images, found none{also}")
    return Images(tree.images, Rows.of(str(folder), tree.names(tree.images),
                                       ["?"] * len(tree.images), notes=tuple(tree.notes())))


def walk(root: Path) -> Tree:
    """Everything below a folder. InputError if there is no such folder."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    tree, known, links = Tree(root), set(), []
    found = _below(root, tree, known, links)
    top = os.path.realpath(root)
    while links:  # real folders come first, so that a link is what is skipped
        link = links.pop(0)
        real = os.path.realpath(link)
        if real in known or f"{top}{os.sep}".startswith(real.rstrip(os.sep) + os.sep):
            tree.again.append(link)
        else:
            found += _below(link, tree, known, links)
    found = _once(found, tree)
    for paths in (tree.folders, tree.hidden, tree.again, tree.closed):
        paths.sort()
    for path in sorted(found, key=lambda path: _place(path, root)):
        # A link that leads nowhere is left out by name when it is opened.
        regular = os.path.isfile(path) or not os.path.exists(path)
        (tree.images if regular and pictures.is_picture(path) else tree.other).append(path)
    return tree


def note(names: Sequence[str], what: str) -> tuple[str, ...]:
    return (f"{len(names)} {what}: {abbreviated(names)}",) if names else ()


def _below(folder: Path, tree: Tree, known: set[str], links: list[Path]) -> list[Path]:
    """The files below a folder; `known` gets the real paths of the folders gone through, `links`
    those to other folders."""
    files, waiting = [], [(folder, os.path.realpath(folder))]
    while waiting:
        folder, real = waiting.pop()
        if real in known:
            tree.again.append(folder)
            continue
        known.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            tree.closed.append(folder)
            continue
        for entry in entries:
            path = folder / entry.name
            is_folder = _is_folder(entry)
            if _is_hidden(entry.name, is_folder):
                if is_folder or path.suffix.lower() in pictures.ENDINGS \
                        and not entry.name.startswith("._"):  # macOS keeps properties in these
                    tree.hidden.append(path)
                continue
            if not is_folder:
                files.append(path)
            elif entry.is_symlink():
                links.append(path)
            else:
                waiting.append((path, os.path.join(real, entry.name)))
            if is_folder and folder == tree.root:
                tree.folders.append(path)
    return files


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_hidden(name: str, is_folder: bool) -> bool:
    return name.startswith(".") or is_folder and name.casefold() in SYSTEMS


def _once(files: Sequence[Path], tree: Tree) -> list[Path]:
    """The files without links to others of the same class: they would support one another."""
    linked = [path for path in files if path.is_symlink()]
    if not linked:
        return [*files]
    again = set(linked)
    known = {(_class_of(path, tree.root), os.path.realpath(path)) for path in files
             if path not in again}
    kept = []
    for path in sorted(linked, key=lambda path: _place(path, tree.root)):
        key = _class_of(path, tree.root), os.path.realpath(path)
        if key in known:
            tree.again.append(path)
        else:
            known.add(key)
            kept.append(path)
    return [path for path in files if path not in again] + kept


def _class_of(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0]


def _place(path: Path, root: Path) -> tuple[str, str, str]:
    first, *_ = path.relative_to(root).parts
    return "" if path.parent == root else first, str(path.parent), path.name


def _with_content(folder: Path, tree: Tree) -> str:
    """An empty class, and what files of another kind it holds."""
    inside = Counter(path.suffix.lower() or "without ending" for path in tree.other
                     if path.is_relative_to(folder))
    counts = ", ".join(f"{count} {ending}" for ending, count in inside.most_common())
    return f"{folder.name} ({counts})" if counts else folder.name


def _inner_folders(files: Sequence[Path], folder: Path) -> dict[str, set[str]]:
    """The folders directly in each class that have images, "" for the class itself."""
    inside: dict[str, set[str]] = {}
    for path in files:
        first, *rest, _ = path.relative_to(folder).parts
        inside.setdefault(first, set()).add(rest[0] if rest else "")
    return inside


def _refuse_splits(folder: Path, inside: dict[str, set[str]]) -> None:
    """InputError where classes are called train, test and the like, and hold folders themselves, or
    there are no others."""
    splits = [name for name in inside if SPLIT.fullmatch(name)]
    nested = [name for name in splits if inside[name] != {""}]
    several, alone = len(splits) > 1, len(splits) == len(inside)
    if several and (alone or nested) or alone and nested:
        best = next((name for name in nested if name.casefold().startswith("tr")), None) \
            or (nested or splits)[0]
        how = (f"give one of them, such as {folder / best}" if nested else
               "expected a folder for each class, or a table of paths and labels as --image_csv")
        raise InputError(f"{folder}: {', '.join(map(repr, splits))} "
                         f"{'are splits' if several else 'is a split'} of a data set, not "
                         f"classes; {how}")


def _perhaps_classes(inside: dict[str, set[str]]) -> list[str]:
    """A note where every class holds the same folders, which may be the classes that are meant."""
    same, every = set.intersection(*inside.values()), set.union(*inside.values())
    if len(inside) < 2 or len(same) < 2 or "" in every:
        return []
    return [f"each class ({abbreviated(list(inside))}) holds folders {abbreviated(sorted(same))}, "
            f"which are not told apart; if those are the classes, give one of the former"]
