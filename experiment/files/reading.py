"""Reading files: weights only, checked first, and one line for a file that cannot be read."""

import argparse
import contextlib
import errno
import json
import math
import pickle
import re
import types
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
# a checkpoint, and numpy arrays or scalars of numbers or text. Each is data; none can run code.
_DTYPES = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFDSU"}
_PATHS = [f"{module}.{system}Path" for module in ("pathlib", "pathlib._local")  # Python 3.13's
          for system in ("Posix", "Windows", "PurePosix", "PureWindows")]


def _parts(*parts: str) -> tuple[str, ...]:
    """Stands for a path: what was written, as an object that reaches no disk."""
    return parts


def _no_bytes() -> bytes:
    """Stands for bytes, which torch calls for empty ones alone; of a number they would be many."""
    return b""


def _scalar(kind: np.dtype, content: bytes) -> np.generic:
    """As numpy's function of this name, which makes as many zeros as a kind without content has."""
    if not isinstance(content, bytes) or len(content) != kind.itemsize:
        raise ValueError(f"claims a number of {kind} of other bytes")
    return np._core.multiarray.scalar(kind, content)


_HARMLESS = [
    argparse.Namespace, types.SimpleNamespace, range, np.ndarray, np.dtype, *_DTYPES,
    # under either name: numpy 1 and numpy 2 wrote it
    *((call, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name, call in (
        ("_reconstruct", np._core.multiarray._reconstruct), ("scalar", _scalar))),
    *((_parts, name) for name in _PATHS), (_no_bytes, "builtins.bytes"),
]
SAVED_AGAIN = "save it again with nothing but tensors, numpy arrays, numbers and text, such as " \
              "model.state_dict()"


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
        other = checks.another_kind(Path(source))
        if other:
            raise InputError(f"{source}: {problem} ({other})") from error
        raise InputError(f"{source}: {problem} ({_reason(error)}){advice}") from error


def _reason(error: Exception) -> str:
    """As `reason_of`; of what the restricted unpickler refuses, the type and what to do.

    torch's own message says how to switch the restriction off, and in colours.
    """
    text = str(error)
    if not isinstance(error, pickle.UnpicklingError) and "Weights only load failed" not in text:
        return reason_of(error)
    if "Unsupported operand" in text:
        return "pickled by another protocol than torch.save's; save it again with torch.save"
    found = re.search(r"GLOBAL (\S{1,100})", text) or re.search(r"got <class '(\S{1,100})'>", text)
    return f"holds {found[1] if found else 'an object'}, which is not read as it could run code; " \
           f"{SAVED_AGAIN}"


def _requested(error: Exception) -> int:
    """Bytes that numpy or torch could not allocate, by their message; 0 if it does not say."""
    if hasattr(error, "shape"):
        return math.prod(error.shape) * error.dtype.itemsize
    found = re.search(r"tried to allocate (\d+) bytes", str(error))
    return int(found[1]) if found else 0


def load(path: Path, *, progress: bool = False) -> Any:
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
        sizes = checks.check_torch(path, progress=progress) if zipped else \
            checks.check_legacy_torch(path)

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
            arrays = {key: file[key] for key in file.files}
        for array in arrays.values():
            checks.check_letters(array)
        return arrays


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    with refusing(path, "not a readable .npy file"):
        with open(path, "rb") as file:
            checks.check_npy(file, path.stat().st_size, path.name)
        array = np.load(path, allow_pickle=False)
        checks.check_letters(array)
        return array
