"""Every metrics.json under a folder as tables: an experiment and score on each row.

Experiments with the same groups (OOD sets) share a table.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.command.errors import InputError

FIGURES = {"auroc": "AUROC", "ap": "AP", "tnr95": "TNR95", "fpr95": "FPR95"}
LOWER_IS_BETTER = "fpr95"
DECIMALS = 3
ALL = "all"  # the group of all rows together


@dataclass(frozen=True)
class Experiment:
    """The rows of one metrics.json: score -> (group, figure) -> value, None where undefined."""

    name: str
    groups: tuple[str, ...]
    scores: dict[str, dict[tuple[str, str], float | None]]

    def best(self, group: str, figure: str) -> str | None:
        """The best value as it is printed: scores that look the same are best together."""
        known = [value for values in self.scores.values()
                 if (value := values.get((group, figure))) is not None]
        if not known:
            return None
        return printed(min(known) if figure == LOWER_IS_BETTER else max(known))


@dataclass(frozen=True)
class Gathered:
    """What was found, and a line for each metrics.json that was not used."""

    experiments: list[Experiment] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def tables(self) -> list[tuple[tuple[str, ...], list[Experiment]]]:
        """(groups, experiments) of each table, in the order of their first experiments."""
        found: dict[tuple[str, ...], list[Experiment]] = {}
        for experiment in self.experiments:
            found.setdefault(experiment.groups, []).append(experiment)
        return list(found.items())


def printed(value: float | None) -> str | None:
    return None if value is None else f"{value:.{DECIMALS}f}"


def one_line(text: str) -> str:
    """Without line breaks and what cannot be printed or encoded."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def gather(folders: list[Path], *, scores: list[str] | None = None) -> Gathered:
    """The experiments of all metrics.json under the folders, by path; of `scores` alone if given.

    An experiment is called by its path under the folder (beside other folders: by its whole
    path), without the report/ at its end. Raises InputError where there is nothing to show, and
    for a score that no experiment has.
    """
    found = Gathered()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--cache_dir {folder}: no such folder")
        for path in sorted(folder.rglob("metrics.json")):
            try:
                found.experiments.append(_read(path, _name(path, folder, len(folders) > 1)))
            except _Foreign as reason:
                found.skipped.append(one_line(f"{path} is left out: {reason}"))
    if not found.experiments:
        where = ", ".join(map(str, folders))
        raise InputError(f"{where}: no metrics.json with figures; detect.py writes one where the "
                         f"wrong labels are known" + f" ({'; '.join(found.skipped)})"
                         * bool(found.skipped))
    return found if scores is None else Gathered(_only(scores, found.experiments), found.skipped)


def _name(path: Path, folder: Path, whole: bool) -> str:
    home = path.parent.parent if path.parent.name == "report" and path.parent != folder else \
        path.parent
    if home == folder:
        return folder.resolve().name
    return str(home if whole else home.relative_to(folder))


class _Foreign(Exception):
    """The file is not one that this project wrote, or holds no figures."""


def _read(path: Path, name: str) -> Experiment:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _Foreign(f"not readable ({reason})") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise _Foreign("not a metrics.json of this project")
    if not rows:
        raise _Foreign("it has no figures, as no wrong labels or outliers were known")
    groups = tuple(dict.fromkeys(row["group"] for row in rows))
    if len(groups) == 2 and ALL in groups:  # a single set repeats "all"
        groups = (ALL,)
    scores: dict[str, dict] = {}
    for row in rows:
        if row["group"] in groups:
            scores.setdefault(row["name"], {}).update(
                {(row["group"], figure): row[figure] for figure in FIGURES})
    return Experiment(name, groups, scores)


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("name"), str) \
        and isinstance(row.get("group"), str) and all(
            figure in row and _is_figure(row[figure]) for figure in FIGURES)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)
                             and 0 <= value <= 1)


def _only(scores: Iterable[str], experiments: list[Experiment]) -> list[Experiment]:
    known = dict.fromkeys(name for experiment in experiments for name in experiment.scores)
    unknown = [name for name in scores if name not in known]
    if unknown:
        raise InputError(f"--scores {unknown[0]!r}: no such score; there are {', '.join(known)}")
    some = (Experiment(each.name, each.groups, {name: each.scores[name] for name in scores
                                                if name in each.scores}) for each in experiments)
    return [each for each in some if each.scores]
