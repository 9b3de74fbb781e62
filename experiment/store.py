"""Reading and writing files: tensors load weights-only, and a file appears whole or not at all."""

import argparse
import contextlib
import json
import os
import pickle
import secrets
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
              AssertionError, struct.error, pickle.UnpicklingError)


def load(path: Path) -> Any:
    """What torch.save wrote, tensors memory-mapped where the format allows it.

    Raises InputError for a missing file, one that torch did not write, or one that holds anything
    but tensors and the harmless types above.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable tensor file as torch.save writes it "
                         f"({reason[:200]})") from error


def save(value: Any, path: Path) -> None:
    """torch.save, whole or not at all. A view is cloned first: torch would store all behind it.

    The same value gives the same bytes: torch would write the name of a path into the file, but of
    an open file it knows none.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(_detached(value), file)


def remembered(path: Path, origin: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What `path` holds if the .json beside it names this origin, else what `make` returns, which
    is kept there for the next time."""
    sidecar = path.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError):  # none there, or not one of ours
        if path.is_file() and json.loads(sidecar.read_text(encoding="utf-8")) == origin:
            return load(path)
    check_writable(path.parent)
    value = make()
    # In this order a crash leaves no file, never one that seems to be of this origin.
    path.unlink(missing_ok=True)
    save_json(origin, sidecar)
    save(value, path)
    return load(path)


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

