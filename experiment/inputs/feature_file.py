"""Feature files: anyone's data in one .npz, .pt or .safetensors file, or a table.

    features (N, D)   logits or probs (N, C)   labels (N,) integers or text
    optional: is_noisy (N,) bool   is_ood (N,) bool   group, ids (N,) text   class_names (C,) text
              weight (C, D) and bias (C,) of the linear head

A .pt file is a dict of tensors (and lists of text); a .safetensors file holds text as JSON lists in
its metadata, since it stores numbers only. The keys of the published files are accepted too. For
.csv, .tsv, .parquet, and .npy files beside one another see `feature_table`.

Other forms whose meaning is clear are read: whole numbers as floats, one-hot labels, a single
column for two classes, further axes of length 1, logits of -inf (a probability of 0). A new
format is a function in READERS, and one in experiment.cleaning.feature_data, which writes them.
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs import feature_table, own_head
from experiment.inputs.own_data import abbreviated
from experiment.inputs.samples import BLOCK, Samples, probs_of

SPELLINGS = {"feat": "features", "feat_cls": "features", "logit": "logits", "prob": "probs",
             "targets": "labels", "noise": "is_noisy"}
# Where the file has no entry of the proper name.
OTHER_SPELLINGS = {"embeddings": "features", "embedding": "features", "X": "features",
                   "label": "labels", "y": "labels", "pred_probs": "probs",
                   "probabilities": "probs", "classes": "class_names"}
MASKED = -65504.0  # in place of a logit of -inf: a number in half precision, too
LOOKED_AT = 256  # rows, for what wrong probabilities look like
FLOATS = ("features", "logits", "probs", "weight", "bias")
FLAGS = ("is_noisy", "is_ood")
TEXTS = ("group", "ids", "class_names")
KNOWN = (*FLOATS, "labels", *FLAGS, *TEXTS)


def read(path: Path, *, labelled: bool, ignore: Collection[str] = ()) -> Samples:
    """The file as Samples; `labelled` requires labels, keys in `ignore` are not even checked.

    Raises InputError for a missing or unreadable file, a missing key, or values that do not fit.
    """
    if path.suffix not in READERS:
        raise InputError(f"{path}: expected a feature file ending in {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    entries = _entries(path, ignore)
    required = ["features", *(["labels"] if labelled else [])]
    missing = [name for name in required if name not in entries]
    if "probs" not in entries and "logits" not in entries:
        missing.append("probs (or logits)")
    if missing:
        where = " beside it" if path.suffix == ".npy" else ""
        raise InputError(f"{path}: missing {' and '.join(missing)}{where}; found "
                         f"{', '.join(entries) or 'none of ' + ', '.join(KNOWN)}")
    values = {name: _convert(path, name, value) for name, value in entries.items()}
    _two_columns(values)
    if "logits" in values:
        values["logits"] = _unmasked(path, values["logits"])
    if "probs" not in values:
        if values["logits"].ndim != 2:
            raise InputError(f"{path}: logits: expected shape (N, C), "
                             f"got {tuple(values['logits'].shape)}")
        values["probs"] = probs_of(values["logits"])
    _check_meaning(path, values["probs"])
    if "labels" in values:
        values |= _numbered(path, values)
    return Samples(source=str(path), own_data=True, **values)


def names_of(content: Collection[str]) -> dict[str, str]:
    """Which keys of a file are entries that are read -> their proper names, of which two may be
    alike."""
    found: dict[str, str] = {}
    for spellings in (SPELLINGS, OTHER_SPELLINGS):
        there = {*found.values()}
        found |= {key: name for key in content
                  if (name := spellings.get(key, key)) in KNOWN and name not in there}
    return found


def _entries(path: Path, ignore: Collection[str]) -> dict[str, Any]:
    content = READERS[path.suffix](path)
    entries: dict[str, Any] = {}
    for key, name in names_of(content).items():
        if name in entries:
            raise InputError(f"{path}: holds {name} twice, the second time as {key!r}")
        if name not in ignore:
            entries[name] = content[key]
    return entries


def _read_pt(path: Path) -> dict[str, Any]:
    content = reading.load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    tensors, metadata = reading.load_safetensors(path)
    try:
        return tensors | {key: json.loads(value) for key, value in metadata.items()
                          if key in TEXTS}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": reading.load_npz, ".pt": _read_pt, ".safetensors": _read_safetensors,
    ".npy": feature_table.read_beside, **dict.fromkeys(feature_table.TABLES, feature_table.read)}


def _convert(path: Path, name: str, value: Any) -> Tensor | list[str]:
    if name in TEXTS:
        if isinstance(value, (np.ndarray, Tensor)):
            # A small file could hold any number of entries of zero bytes.
            if value.ndim != 1 or value.nbytes < len(value):
                raise InputError(f"{path}: {name}: expected a list of text, got an array of "
                                 f"{value.dtype} of shape {tuple(value.shape)}")
            value = value.tolist()
        if not isinstance(value, (list, tuple, range)):
            raise InputError(f"{path}: {name}: expected a list of text, got {type(value).__name__}")
        return [str(text) for text in value]
    if name == "labels" and is_text(value):
        return [str(text) for text in np.asarray(value).reshape(-1).tolist()]
    try:
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            kind = value.dtype.newbyteorder("=")
            value = value.astype(np.float64 if kind.kind == "f" and kind.itemsize > 8 else kind,
                                 copy=False)
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {name}: expected numbers ({error})") from error
    long = [length for length in tensor.shape[1:] if length != 1]
    if name in FLOATS:
        if tensor.ndim > 2 and len(long) < 2:  # pooled to one pixel
            tensor = tensor.flatten(1)
        return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.float()
    if tensor.ndim > 1 and not long:
        tensor = tensor.flatten()
    if tensor.is_complex() or name in FLAGS and not (tensor == tensor.bool()).all() \
            or tensor.is_floating_point() and not (tensor == tensor.round()).all():
        kind = "integers" if name == "labels" else "True or False"
        raise InputError(f"{path}: {name}: expected {kind}, got {tensor.dtype}")
    if name == "labels" and tensor.ndim == 2:
        hot = tensor != 0
        if not (hot.sum(1) == 1).all() or not (tensor[hot] == 1).all():
            raise InputError(f"{path}: labels: expected one for each row, got an array of "
                             f"{tuple(tensor.shape)} that is not one-hot")
        tensor = hot.int().argmax(1)
    return tensor.bool() if name in FLAGS else tensor.long()


def is_text(value: Any) -> bool:
    """Whether labels are text."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "U" and value.nbytes >= value.size
    return isinstance(value, (list, tuple)) and bool(value) and all(
        isinstance(label, str) for label in value)


def _two_columns(values: dict[str, Any]) -> None:
    """A single column of two classes is that of class 1; of one class it stays."""
    labels = values.get("labels")
    two = len(set(labels)) == 2 if isinstance(labels, list) else \
        labels is not None and labels.numel() > 0 and int(labels.max()) == 1
    for name in ("probs", "logits"):
        column = values.get(name)
        if column is None or column.ndim > 2 or column.ndim == 2 and (
                column.shape[1] != 1 or not two):
            continue
        column = column.reshape(-1, 1)
        first = 1 - column if name == "probs" else torch.zeros_like(column)
        values[name] = torch.cat([first, column], 1)
        for part in ("weight", "bias"):
            if part in values and len(values[part]) == 1:
                values[part] = torch.cat([torch.zeros_like(values[part]), values[part]])


def _unmasked(path: Path, logits: Tensor) -> Tensor:
    """Logits with a number in place of -inf, which is the logit of a class that cannot be."""
    if not len(logits) or all(block.isfinite().all() for block in logits.split(BLOCK)):
        return logits
    masked = logits == -torch.inf
    nothing = masked.reshape(len(logits), -1).all(1)
    if nothing.any():
        raise InputError(f"{path}: logits: expected a finite one in each row, got -inf alone in "
                         f"row {int(nothing.nonzero()[0])}")
    return logits.masked_fill(masked, MASKED)


def _check_meaning(path: Path, probs: Tensor) -> None:
    """InputError for what looks like the logarithm of probabilities, or like percentages."""
    rows = probs[:LOOKED_AT].double()
    if rows.ndim != 2 or not len(rows):
        return
    if (rows <= 0).all() and torch.allclose(rows.exp().sum(1), rows.new_ones(()), atol=1e-2):
        raise InputError(f"{path}: probs: these look like log-probabilities; name them logits, "
                         f"which means the same")
    if (rows >= 0).all() and torch.allclose(rows.sum(1), rows.new_tensor(100.0), atol=1.0):
        raise InputError(f"{path}: probs: these look like percentages; divide them by 100")


def _numbered(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Labels that are text as numbers of columns: by class_names, or else by what fits `probs`."""
    labels, names, probs = values["labels"], values.get("class_names"), values["probs"]
    if not isinstance(labels, list):
        return {}
    if names is not None:
        number = {name: at for at, name in enumerate(names)}
        unknown = next((row for row, name in enumerate(labels) if name not in number), None)
        if unknown is not None:
            raise InputError(f"{path}: labels: {labels[unknown]!r} in row {unknown} is not among "
                             f"class_names ({abbreviated(names)})")
        return {"labels": torch.tensor([number[name] for name in labels])}
    known = tuple(sorted(set(labels)))
    if len(labels) != len(probs) or probs.ndim != 2:
        raise InputError(f"{path}: labels: expected {len(probs)} of them, got {len(labels)}")
    at = {name: number for number, name in enumerate(known)}
    matched, verdict = own_head.match(own_head.OwnHead(probs, None),
                                      torch.tensor([at[name] for name in labels]), known)
    if matched is None:
        raise InputError(f"{path}: labels are text, and which column is which cannot be told "
                         f"({verdict}); add class_names (C,), in the order of the columns")
    return {"labels": matched.labels, "class_names": list(matched.class_names),
            "notes": (f"labels are text; columns by what the network answers: {verdict}",)}
