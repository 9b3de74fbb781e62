"""A feature file as what is to be cleaned: the same arrays for fewer rows, with other labels.

The cleaned file needs as much memory as the original has bytes.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiment.cleaning.plan import Data, Listed, Plan
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs import feature_file, feature_table, tables
from experiment.inputs.samples import Samples

WHOLE = ("weight", "bias", "class_names")  # of the classes, not of the rows


def of_file(path: Path) -> Data:
    """Rows are called by `ids`, or by their numbers. InputError as feature_file.read raises it."""
    rows = listed(feature_file.read(path, labelled=True))
    write = partial(_write_table, path) if path.suffix in feature_table.TABLES else \
        partial(_write, path, rows.classes, len(rows.names))
    return Data(path, rows.names, rows.labels, classes=rows.classes, write=write)


def listed(samples: Samples) -> Listed:
    """The rows of a feature file that has labels."""
    names = list(map(str, range(len(samples)) if samples.ids is None else samples.ids))
    classes = [samples.class_name(label) for label in range(samples.probs.shape[1])]
    return Listed(Path(samples.source), names, [classes[label] for label in
                                                samples.labels.tolist()], classes=classes)


def _write_table(path: Path, folder: Path, plan: Plan) -> tuple[list[str], list[str]]:
    table = tables.read(path)
    columns = feature_table.columns_of(path, table.columns)
    changes = {str(columns["labels"]): plan.labels}
    if plan.labels and "is_noisy" in columns:
        raise InputError(f"{path}: column {columns['is_noisy']!r} describes the labels before the "
                         f"change; remove it first")
    table.write(folder / path.name, plan.kept, changes)
    return [path.name], []


def _write(path: Path, classes: Sequence[str], n: int, folder: Path, plan: Plan
           ) -> tuple[list[str], list[str]]:
    content, metadata = _read(path)
    number = {name: at for at, name in enumerate(classes)}
    labels = {row: number[label] for row, label in plan.labels.items()}
    names, cleaned, left_out = feature_file.names_of(content), {}, []
    for key, value in content.items():
        name, known = names.get(key, key), key in names
        if name == "is_noisy" and labels:
            left_out.append(f"{key} is left out: it describes the labels before the change")
        elif name in WHOLE or len(plan.kept) == n and not known:
            cleaned[key] = value
        elif known or _length(value) == n:
            cleaned[key] = _take(_set(value, labels, classes) if name == "labels" and labels
                                 else value, plan.kept)
        elif _length(value) is None:
            cleaned[key] = value
        else:
            left_out.append(f"{key} is left out: it has no entry for each row")
    if path.suffix == ".npy":
        for key, value in cleaned.items():
            np.save(folder / feature_table.file_of(path, key), value)
        return [feature_table.file_of(path, key) for key in cleaned], left_out
    _save(cleaned, metadata, folder / path.name)
    return [path.name], left_out


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Every entry under its own key; the texts of a .safetensors file among them, and the rest of
    its metadata apart."""
    if path.suffix != ".safetensors":
        return feature_file.READERS[path.suffix](path), None
    _, metadata = reading.load_safetensors(path)
    content = feature_file.READERS[path.suffix](path)
    return content, {key: text for key, text in metadata.items() if key not in content}


def _save(content: dict[str, Any], metadata: dict[str, str] | None, path: Path) -> None:
    if metadata is not None:
        import json

        from safetensors.torch import save_file

        texts = {key: json.dumps(list(value)) for key, value in content.items()
                 if not isinstance(value, Tensor)}
        save_file({key: value.contiguous() for key, value in content.items()
                   if isinstance(value, Tensor)}, path, metadata=metadata | texts)
    elif path.suffix == ".npz":
        with open(path, "wb") as file:
            np.savez(file, **content)
    else:
        writing.save(content, path)


def _length(value: Any) -> int | None:
    """Entries of an array or a list; None for anything else, such as a name or a number."""
    if isinstance(value, (np.ndarray, Tensor)):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (list, tuple)) else None


def _take(value: Any, rows: Sequence[int]) -> Any:
    if isinstance(value, Tensor):
        return value[torch.tensor(rows)]
    return value[np.array(rows)] if isinstance(value, np.ndarray) else [value[row] for row in rows]


def _set(value: Any, labels: dict[int, int], classes: Sequence[str]) -> Any:
    """The labels (N,) with some others, as wide as they were where that can hold them.

    Text stays text; one-hot labels become numbers.
    """
    if feature_file.is_text(value):
        texts = list(map(str, np.asarray(value).reshape(-1).tolist()))
        for row, label in labels.items():
            texts[row] = classes[label]
        return np.array(texts) if isinstance(value, np.ndarray) else texts
    wide = np.array(value.numpy() if isinstance(value, Tensor) else value, dtype=np.int64)
    wide = wide.argmax(1) if wide.ndim == 2 and wide.shape[1] > 1 else wide.reshape(-1)
    wide[list(labels)] = list(labels.values())
    if isinstance(value, Tensor):
        narrow = torch.from_numpy(wide).to(value.dtype)
        return narrow if (narrow.long().numpy() == wide).all() else torch.from_numpy(wide)
    if isinstance(value, np.ndarray):
        narrow = wide.astype(value.dtype)
        return narrow if (narrow == wide).all() else wide
    return wide.tolist()
