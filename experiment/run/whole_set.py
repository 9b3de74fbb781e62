"""What is wrong with a set beside its labels: outliers, copies, class names with typing errors.

Copies are rows with identical features, files of the same bytes, texts that are the same but for
Unicode form and white space, and rows whose features are nearly the same (see
`relation/duplicates.py`). Files are read only if another one has the same size. Copies count once
where outliers are looked for. N rows, G groups of copies.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import relation
from experiment.inputs.class_names import SameName, same_names
from experiment.inputs.samples import Samples
from experiment.run.settings import FEW_ROWS, Settings

FALSE_ALARMS = 0.01  # share of ordinary rows that are called outliers
PIECE = 2**20  # bytes of a file at a time


@dataclass(frozen=True)
class WholeSet:
    """Tensors on the CPU over the kept rows."""

    outliers: relation.Outliers
    copies: relation.Duplicates | None  # None: not looked for
    is_conflict: Tensor  # (N,) bool: a copy has another label
    same_names: list[SameName]
    spelled: Tensor  # (N,) int64 given labels, without what is probably a typing error
    statement: list[str]  # lines for the screen
    facts: dict[str, Any]  # the same in numbers, for metrics.json


def look_at(samples: Samples, settings: Settings, *, device: torch.device, progress: bool
            ) -> WholeSet:
    """Outliers of labelled samples, copies and conflicts among them, names spelled wrongly."""
    copies = find_copies(samples, settings, progress=progress)
    outliers = _outliers(samples, copies, device=device, progress=progress)
    count, n = int(outliers.is_outlier.sum()), len(samples)
    statement = [f"outliers: {count:,} of {n:,} rows, at a false-alarm rate of "
                 f"{100 * FALSE_ALARMS:g} % (about {round(FALSE_ALARMS * n):,} rows by chance)"]
    facts: dict[str, Any] = {"outliers": {
        "rows": count, "false_alarm_rate": FALSE_ALARMS,
        "threshold": outliers.threshold if count else None}}
    is_conflict = torch.zeros(n, dtype=torch.bool)
    if copies is not None:
        conflicts = copies.conflicts(samples.labels)
        is_conflict = torch.isin(copies.groups, conflicts)
        statement.append(f"duplicates: {_said(copies, len(conflicts))}")
        facts["duplicates"] = {
            "groups": len(copies.sizes), "rows": int(copies.sizes.sum()),
            "exact_rows": int(copies.is_exact.sum()), "threshold": copies.threshold,
            "radius": copies.radius, "conflicts": len(conflicts)}
    names, spelled = _spelled(samples)
    statement += [f"class names: {one.name!r} ({one.rows:,} rows) is probably {one.suggested!r}"
                  for one in names]
    facts["same_names"] = [one._asdict() for one in names]
    return WholeSet(outliers, copies, is_conflict, names, spelled, statement, facts)


def find_copies(samples: Samples, settings: Settings, *, progress: bool
                ) -> relation.Duplicates | None:
    """The copies in a set, as `settings.duplicates` says; None where that is "off"."""
    if settings.duplicates == "off":
        return None
    return relation.find_duplicates(samples.features, threshold=settings.duplicates or "auto",
                                    contents=next(contents_of(samples)), progress=progress)


def find_leakage(train: Samples, test: Samples, settings: Settings, *, progress: bool
                 ) -> relation.Leakage | None:
    """Which test rows stand in the training set; None where that is "off", or a set is large."""
    if settings.duplicates == "off" or settings.duplicates is None \
            and max(len(train), len(test)) > FEW_ROWS:
        return None
    found = relation.find_leakage(train.features, test.features.to(train.features.dtype),
                                  threshold=settings.duplicates or "auto", progress=progress)
    of_train, of_test = contents_of(train, test)
    if of_train is None:
        return found
    first = torch.full((1 + int(max(of_train.max(), of_test.max())),), len(train))
    first.scatter_reduce_(0, of_train, torch.arange(len(train)), "amin")
    same = first[of_test]
    known = same < len(train)
    return found._replace(rows=torch.where(known, same, found.rows),
                          cosines=torch.where(known, 1.0, found.cosines),
                          is_exact=found.is_exact | known)


def told_of(leakage: relation.Leakage | None) -> tuple[list[str], dict[str, Any]]:
    """The same as a line for the screen, and in numbers for metrics.json."""
    if leakage is None:
        return [], {}
    count, exact = int((leakage.rows >= 0).sum()), int(leakage.is_exact.sum())
    return ([f"leakage: {count:,} of {len(leakage.rows):,} test rows are copies of training rows, "
             f"{exact:,} of them exact ({_near(leakage)})"],
            {"leakage": {"rows": count, "exact_rows": exact, "threshold": leakage.threshold,
                         "radius": leakage.radius}})


def contents_of(*sets: Samples) -> Iterator[Tensor | None]:
    """(N,) for each set: rows of one number have files of the same bytes, or the same text.

    A file that cannot be read is the same as no other. None without files or texts.
    """
    kind = next((kind for kind in ("text", "filepath")
                 if all(kind in samples.content for samples in sets)), None)
    values = [value for samples in sets for value in samples.content.get(kind, ())]
    keys = map(_same_text, values) if kind == "text" else _digests(values)
    known: dict[Any, int] = {}
    numbers = torch.tensor([known.setdefault(key, len(known)) for key in keys])
    yield from [None] * len(sets) if kind is None else numbers.split(list(map(len, sets)))


def _same_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _digests(paths: list[str]) -> Iterator[Any]:
    """The digest of each file's bytes, or its path where no other file has its size."""
    sizes = [_size(path) for path in paths]
    count = Counter(sizes)
    for path, size in zip(paths, sizes):
        try:
            yield path if size is None or count[size] == 1 else _digest(path)
        except OSError:
            yield path


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # whoever read it said so
        return None


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.digest()


def _outliers(samples: Samples, copies: relation.Duplicates | None, *, device: torch.device,
              progress: bool) -> relation.Outliers:
    """Of each group of copies the first one counts, and the others get what it gets."""
    outputs = relation.Outputs(samples.features, samples.probs, samples.labels)
    first = None if copies is None else relation.first_of_group(copies.groups)
    return relation.find_outliers(outputs, rate=FALSE_ALARMS, first_copy=first, device=device,
                                  progress=progress)


def _said(copies: relation.Duplicates, conflicts: int) -> str:
    how = _near(copies)
    if len(copies.sizes) == 0:
        return f"none ({how})"
    rows, exact = int(copies.sizes.sum()), int(copies.is_exact.sum())
    return (f"{rows:,} rows in {len(copies.sizes):,} groups, {exact:,} of them exact copies "
            f"({how}); groups with several labels: {conflicts:,}")


def _near(copies: relation.Duplicates | relation.Leakage) -> str:
    said = []
    if copies.threshold is not None:
        said.append(f"a cosine above {copies.threshold:.6g}")
    if copies.radius is not None:
        said.append(f"a distance below {copies.radius:.3g}")
    return f"near ones have {' or '.join(said)}" if said else \
        "near ones cannot be told from ordinary neighbours"


def _spelled(samples: Samples) -> tuple[list[SameName], Tensor]:
    """Class names with probable typing errors, and the labels (N,) without these."""
    if samples.class_names is None:
        return [], samples.labels
    counts = samples.labels.bincount(minlength=len(samples.class_names)).tolist()
    names = same_names({name: rows for name, rows in zip(samples.class_names, counts) if rows})
    number = {name: at for at, name in enumerate(samples.class_names)}
    spelled = torch.arange(len(counts))
    for one in names:
        spelled[number[one.name]] = number[one.suggested]
    return names, spelled[samples.labels]
