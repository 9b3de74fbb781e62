"""Reading and writing files: tensors load weights-only, and a file appears whole or not at all."""

import argparse
import errno
import json
import math
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiment.command.errors import InputError, is_out_of_memory
from experiment.files import checks

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


def load(path: Path) -> Any:
    """What torch.save wrote, tensors memory-mapped where the format allows it.

    The file is read through once before, to compare its checksums: a second for a gigabyte.
    Raises InputError for a missing file, one that torch did not write, one whose bytes have changed
    since, or one that holds anything but tensors and the harmless types above.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        zipped = checks.is_zip(path)
        sizes = checks.check_torch(path) if zipped else checks.check_legacy_torch(path)

        def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            if zipped and not sizes[storage.nbytes()]:
                raise ValueError(f"claims a tensor of {storage.nbytes():,} bytes that it does not "
                                 f"hold")
            return storage  # on the CPU, wherever it was

        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location=place, weights_only=True, mmap=zipped)
        checks.check_content(content, path.stat().st_size)
        return content
    except UNREADABLE as error:
        _raise_if_not_of_the_file(error, path, most=path.stat().st_size)
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
        _raise_if_not_of_the_file(error, path)
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
        checks.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except checks.BROKEN as error:
        _raise_if_not_of_the_file(error, path)
        raise InputError(f"{path}: not a readable .npz file ({error}); text must be stored as a "
                         f"numpy string array, not as objects") from error


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    try:
        with open(path, "rb") as file:
            checks.check_npy(file, path.stat().st_size, path.name)
        return np.load(path, allow_pickle=False)
    except checks.BROKEN as error:
        _raise_if_not_of_the_file(error, path)
        raise InputError(f"{path}: not a readable .npy file ({error})") from error


def _raise_if_not_of_the_file(error: Exception, path: Path, *, most: float = math.inf) -> None:
    """Memory that ends, or a disk that fails, makes no good file a broken one.

    A file that asks for more than the `most` bytes that it can need is to blame itself.
    """
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        raise OSError(error.errno, error.strerror, str(path)) from error
    if is_out_of_memory(error) and _asked_for(error) <= most:
        raise error


def _asked_for(error: Exception) -> int:
    """Bytes that could not be had, as numpy and torch say; 0 where it is not said."""
    if hasattr(error, "shape"):
        return math.prod(error.shape) * error.dtype.itemsize
    said = re.search(r"tried to allocate (\d+) bytes", str(error))
    return int(said[1]) if said else 0


