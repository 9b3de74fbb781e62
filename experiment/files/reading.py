"""Reading files: weights only, checked first, and one line for a file that cannot be read."""

import argparse
import contextlib
import errno
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from experiment.command.errors import InputError, reason_of
from experiment.command.out_of_memory import is_out_of_memory
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


@contextlib.contextmanager
def refusing(source: Path | str, problem: str, advice: str = "", *, most: float = math.inf
             ) -> Iterator[None]:
    """Raise what the block raises for a broken file as InputError, `source: problem (reason)`.

    Running out of memory and a failing disk say nothing about the file: they are raised as they
    are, the latter with the name of the file. But a file that asks for more than the `most` bytes
    that it can need is itself to blame.
    """
    try:
        yield
    except checks.BROKEN as error:
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
            raise OSError(error.errno, error.strerror, str(source)) from error
        if is_out_of_memory(error) and _requested(error) <= most:
            raise
        raise InputError(f"{source}: {problem} ({reason_of(error)}){advice}") from error


def _requested(error: Exception) -> int:
    """Bytes that numpy or torch could not allocate, by their message; 0 if it does not say."""
    if hasattr(error, "shape"):
        return math.prod(error.shape) * error.dtype.itemsize
    found = re.search(r"tried to allocate (\d+) bytes", str(error))
    return int(found[1]) if found else 0


def load(path: Path) -> Any:
    """Load a file of torch.save, tensors memory-mapped if the format allows it.

    The file is first read through to compare its checksums: a second for a gigabyte. Raises
    InputError for a file that is missing, was not written by torch, has changed since, or holds
    anything but tensors and the harmless types above.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with refusing(path, "not a readable tensor file as torch.save writes it",
                  most=path.stat().st_size):
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


def load_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file.

    The library itself refuses a header that claims other than what the file holds.
    """
    with refusing(path, "not a readable .safetensors file"), \
            safetensors.safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}


def load_json(path: Path) -> Any:
    """Raises InputError for a file that is missing or is not JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error})") from error


def recorded(sidecar: Path) -> dict[str, Any]:
    """The content of a sidecar; empty, so that it matches nothing, if it is missing or damaged."""
    try:
        content = load_json(sidecar)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, text as numpy strings."""
    with refusing(path, "not a readable .npz file",
                  "; text must be stored as a numpy string array, not as objects"):
        checks.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    with refusing(path, "not a readable .npy file"):
        with open(path, "rb") as file:
            checks.check_npy(file, path.stat().st_size, path.name)
        return np.load(path, allow_pickle=False)
