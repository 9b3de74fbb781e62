"""Where a trained model's files lie, and what its config says about the order of the classes.

Apart from `models.py`, so that detection on ready features does not wait for transformers.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiment.command.errors import InputError
from experiment.files import reading

PUBLISHED = "roberta-base_fp16_noise0.1"
DEMO = "roberta-tiny_noise0.1"  # what the demo's own training writes
EPOCH = 4


class Place(NamedTuple):
    weights: Path
    homes: tuple[Path, ...]  # where config and tokenizer may lie, the first that has them wins
    features: Path  # where the feature files lie or will lie
    report: Path


def locate(task_folder: Path, model_name: str | None, epoch: int) -> Place:
    """Folders of a model, by its name in the task's folder or by the path of any folder.

    The folder holds epoch_<k>/ folders, or is itself what save_pretrained writes (the epoch then
    says nothing). Raises InputError where there is none, or none of that epoch.
    """
    default = DEMO if task_folder.name == "demo" else PUBLISHED
    name = model_name or default
    base = features = task_folder / name
    if Path(name).is_dir() and (Path(name).is_absolute() or not base.is_dir()):
        base = Path(name).resolve()
        # The path is part of the name, so that two models of one name share no feature file.
        digest = hashlib.sha256(str(base).encode()).hexdigest()[:8]
        features = task_folder / f"{base.name}-{digest}"
    if not base.is_dir():
        raise InputError(f"--model_name {name}: no such folder, here or in {task_folder}")
    weights = base / f"epoch_{epoch}"
    if weights.is_dir():
        features /= weights.name
        own = name == default and epoch == EPOCH
        return Place(weights, homes_of(weights), features,
                     task_folder / "report" if own else features / "report")
    epochs = epochs_in(base)
    if epochs or not any((home / "config.json").is_file() for home in homes_of(base)):
        raise InputError(f"--epoch {epoch}: no folder {weights}; epochs there: "
                         f"{', '.join(map(str, epochs)) or 'none'}")
    return Place(base, homes_of(base), features, features / "report")


def homes_of(weights: Path) -> tuple[Path, ...]:
    """Where config and tokenizer of these weights may lie: an epoch's lie one folder up as well."""
    return (weights, weights.parent) if weights.name.startswith("epoch_") else (weights,)


def epochs_in(folder: Path) -> list[int]:
    """k of every folder epoch_<k>, ascending."""
    return sorted(int(number) for path in folder.glob("epoch_*")
                  if (number := path.name.removeprefix("epoch_")).isdecimal())


def config_of(place: Place) -> Path | None:
    """The config.json of a model, where it has one."""
    return next((home / "config.json" for home in place.homes
                 if (home / "config.json").is_file()), None)


def model_classes(place: Place) -> tuple[str, ...] | None:
    """Names of the model's columns by its config; None where they are LABEL_0, LABEL_1, …"""
    config = config_of(place)
    if config is None:
        return None
    try:
        names = reading.load_json(config).get("id2label", {})
        names = tuple(str(names[column]) for column in sorted(names, key=int))
    except (InputError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: not a readable config ({error})") from error
    return None if not names or names[0].startswith("LABEL_") else names


def column_order(model_names: Sequence[str], class_names: Sequence[str]) -> list[int] | None:
    """For each class of the data the model's column, where both name the same classes.

    Models of one task need not agree: some count MNLI's classes from contradiction, GLUE counts
    from entailment. None where the names differ: the order is then taken to be the same.
    """
    columns = {name.casefold(): column for column, name in enumerate(model_names)}
    order = [columns.get(name.casefold()) for name in class_names]
    return order if set(order) == set(range(len(class_names))) else None
