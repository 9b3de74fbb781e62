"""Feature files: anyone's data in one .npz, .pt or .safetensors file.

    features (N, D)   logits or probs (N, C)   labels (N,) integers
    optional: is_noisy (N,) bool   is_ood (N,) bool   group, ids (N,) text   class_names (C,) text
              weight (C, D) and bias (C,) of the linear head

A .pt file is a dict of tensors (and lists of text); a .safetensors file holds text as JSON lists in
its metadata, since it stores numbers only. The keys of the published files are accepted too. A new
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
from experiment.inputs.samples import Samples, probs_of

SPELLINGS = {"feat": "features", "feat_cls": "features", "logit": "logits", "prob": "probs",
             "targets": "labels", "noise": "is_noisy"}
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
    entries = {}
    for key, value in READERS[path.suffix](path).items():
        name = SPELLINGS.get(key, key)
        if name in entries:
            raise InputError(f"{path}: holds {name} twice, the second time as {key!r}")
        if name in KNOWN and name not in ignore:
            entries[name] = value
    required = ["features", *(["labels"] if labelled else [])]
    missing = [name for name in required if name not in entries]
    if "probs" not in entries and "logits" not in entries:
        missing.append("probs (or logits)")
    if missing:
        raise InputError(f"{path}: missing {' and '.join(missing)}; found "
                         f"{', '.join(entries) or 'none of ' + ', '.join(KNOWN)}")
    values = {name: _convert(path, name, value) for name, value in entries.items()}
    if "probs" not in values:
        if values["logits"].ndim != 2:
            raise InputError(f"{path}: logits: expected shape (N, C), "
                             f"got {tuple(values['logits'].shape)}")
        values["probs"] = probs_of(values["logits"])
    return Samples(source=str(path), own_data=True, **values)


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
    ".npz": reading.load_npz, ".pt": _read_pt, ".safetensors": _read_safetensors}


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
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {name}: expected numbers ({error})") from error
    if name in FLOATS:
        return tensor
    whole = tensor.dtype == torch.bool or not (tensor.is_floating_point() or tensor.is_complex())
    if not whole:
        kind = "integers" if name == "labels" else "True or False"
        raise InputError(f"{path}: {name}: expected {kind}, got {tensor.dtype}")
    return tensor.bool() if name in FLAGS else tensor.long()
