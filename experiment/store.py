"""Reading and writing files: tensors load weights-only, and a file appears whole or not at all."""

import argparse
import contextlib
import json
import os
import pickle
import secrets
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiment import archives
from experiment.errors import InputError

# What the published files hold besides tensors and plain Python values: the training arguments in
# a checkpoint, and numpy arrays or scalars of these kinds. Each is data; none can run code.
_DTYPES = [type(np.dtype(kind)) for kind in ("bool", "int64", "float32", "float64")]
_HARMLESS = [
    argparse.Namespace, np.ndarray, np.dtype, *_DTYPES,
    np._core.multiarray._reconstruct, np._core.multiarray.scalar,
    # the same two as files written by numpy 1 name them
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
]

# What torch and the unpickler raise on bytes that are no such file, or half of one.
UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError,
              AssertionError, MemoryError, struct.error, pickle.UnpicklingError,
              zipfile.BadZipFile)
CONTAINERS = 10**6  # dicts, lists and tuples in one file; those inside one another multiply


def load(path: Path) -> Any:
    """What torch.save wrote, tensors memory-mapped where the format allows it.

    The file is read through once before, to compare its checksums: a second for a gigabyte.
    Raises InputError for a missing file, one that torch did not write, one whose bytes have changed
    since, or one that holds anything but tensors and the harmless types above.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        zipped = archives.is_zip(path)
        sizes = archives.check_torch(path) if zipped else Counter()

        def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            if zipped and not sizes[storage.nbytes()]:
                raise ValueError(f"claims a tensor of {storage.nbytes():,} bytes that it does not "
                                 f"hold")
            return storage  # on the CPU, wherever it was

        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location=place, weights_only=True, mmap=zipped)
        _check_content(content, path.stat().st_size)
        return content
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable tensor file as torch.save writes it "
                         f"({reason[:200]})") from error


def load_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file.

    The library itself refuses a header that claims other than what the file holds.
    """
    from safetensors import SafetensorError, safe_open  # only for those who have such files

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except (*UNREADABLE, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error


def load_json(path: Path) -> Any:
    """Raises InputError for a file that is missing or is not JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error})") from error


def recorded(sidecar: Path) -> dict[str, Any]:
    """What a sidecar says; nothing where it is missing or is not one: then it matches nothing."""
    try:
        content = load_json(sidecar)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, text as numpy strings."""
    try:
        archives.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except archives.BROKEN as error:
        raise InputError(f"{path}: not a readable .npz file ({error}); text must be stored as a "
                         f"numpy string array, not as objects") from error


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    try:
        with open(path, "rb") as file:
            archives.check_npy(file, path.stat().st_size, path.name)
        return np.load(path, allow_pickle=False)
    except archives.BROKEN as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from error


def _check_content(content: Any, size: int) -> None:
    """Refuse what would be larger than the file: views that repeat, lists inside one another."""
    stack, seen = [content], 0
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor) and (
                value.layout != torch.strided or value.is_meta or value.is_quantized):
            raise ValueError("holds a tensor that is not stored in full")
        if isinstance(value, (torch.Tensor, np.ndarray)) and value.nbytes > size:
            raise ValueError(f"claims {value.nbytes:,} bytes, more than the {size:,} of the file")
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, (dict, list, tuple, set)):
            seen += 1
            if seen > CONTAINERS:
                raise ValueError("holds lists inside one another without end")
            stack += value.values() if isinstance(value, dict) else value


def save(value: Any, path: Path) -> None:
    """torch.save, whole or not at all. A view is cloned first: torch would store all behind it.

    The same value gives the same bytes: torch would write the name of a path into the file, but of
    an open file it knows none.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(_detached(value), file)


def save_json(value: Any, path: Path) -> None:
    """JSON with strict numbers (None for what is undefined), whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its place if the block succeeds.

    Flushed to disk before the rename; removed if the block fails, and the old file stays.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):  # nothing to remove where nothing could be created
            temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Create the folder and try it, so that a run does not fail when its hours are spent.

    Raises InputError where a file cannot be created.
    """
    probe = folder / f".{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return {key: _detached(entry) for key, entry in value.items()}
    return value

