"""Reading files: weights only, checked first, and one line for a file that cannot be read."""

import argparse
import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

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
def refusing(source: Path | str, problem: str, advice: str = "") -> Iterator[None]:
    """Raise what the block raises for a broken file as InputError, `source: problem (reason)`.

    Running out of memory and a failing disk say nothing about the file: they are raised as they
    are, the latter with the name of the file.
    """
    try:
        yield
    except checks.BROKEN as error:
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
            raise OSError(error.errno, error.strerror, str(source)) from error
        if is_out_of_memory(error):
            raise
        raise InputError(f"{source}: {problem} ({reason_of(error)}){advice}") from error


def load(path: Path) -> Any:
    """What torch.save wrote, tensors memory-mapped where the format allows it.

    The file is read through once before, to compare its checksums: a second for a gigabyte.
    Raises InputError for a missing file, one that torch did not write, one whose bytes have changed
    since, or one that holds anything but tensors and the harmless types above.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with refusing(path, "not a readable tensor file as torch.save writes it"):
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
            safe_open(path, framework="pt") as file:
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
    """What a sidecar says; nothing where it is missing or is not one: then it matches nothing."""
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
