"""Where a trained model's files are, and the order of the classes by its config.

Apart from `models.py`, so that detection on cached features does not import transformers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.files.writing import distinct
from experiment.inputs.own_data import class_names_of
from language import DEMO, EPOCH, PUBLISHED


class Place(NamedTuple):
    weights: Path
    homes: tuple[Path, ...]  # folders searched for config and tokenizer, in order
    features: Path  # folder of the feature files
    report: Path


def locate(task_folder: Path, model_name: str | None, epoch: int) -> Place:
    """Folders of a model, by its name in the task's folder or by the path of any folder.

    The folder holds epoch_<k>/ folders, or is itself one of save_pretrained (epoch is then
    ignored). Raises InputError if there is none, or none of that epoch.
    """
    default = DEMO if task_folder.name == "demo" else PUBLISHED
    name = model_name or default
    base = features = task_folder / name
    if Path(name).is_dir() and (Path(name).is_absolute() or not base.is_dir()):
        base = Path(name).resolve()
        features = task_folder / distinct(base.name, base)
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
    """Folders that may hold config and tokenizer: for an epoch, also the folder above."""
    return (weights, weights.parent) if weights.name.startswith("epoch_") else (weights,)


def epochs_in(folder: Path) -> list[int]:
    """k of every folder epoch_<k>, ascending."""
    return sorted(int(number) for path in folder.glob("epoch_*")
                  if (number := path.name.removeprefix("epoch_")).isdecimal())


def config_of(place: Place) -> Path | None:
    """The config.json of a model, or None."""
    return next((home / "config.json" for home in place.homes
                 if (home / "config.json").is_file()), None)


def model_classes(place: Place) -> tuple[str, ...] | None:
    """Names of the model's columns by its config; None for LABEL_0, LABEL_1, …"""
    config = config_of(place)
    if config is None:
        return None
    try:
        return class_names_of(reading.load_json(config).get("id2label", {}))
    except (InputError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: not a readable config ({error})") from error


def column_order(model_names: Sequence[str], class_names: Sequence[str]) -> list[int] | None:
    """For each class of the data the model's column, if both name the same classes.

    Models of one task differ: some number MNLI's classes from contradiction, GLUE from entailment.
    None if the names differ: the order is then taken to be the same.
    """
    columns = {name.casefold(): column for column, name in enumerate(model_names)}
    order = [columns.get(name.casefold()) for name in class_names]
    return order if set(order) == set(range(len(class_names))) else None
