"""Reading and writing files: tensors load weights-only, and a file appears whole or not at all."""

import argparse
import contextlib
import errno
import fcntl
import glob
import json
import math
import os
import pickle
import re
import secrets
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from experiment import archives, bombs
from experiment.errors import InputError, is_out_of_memory

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
        zipped = archives.is_zip(path)
        sizes = archives.check_torch(path) if zipped else archives.check_legacy_torch(path)

        def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            if zipped and not sizes[storage.nbytes()]:
                raise ValueError(f"claims a tensor of {storage.nbytes():,} bytes that it does not "
                                 f"hold")
            return storage  # on the CPU, wherever it was

        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location=place, weights_only=True, mmap=zipped)
        bombs.check_content(content, path.stat().st_size)
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
        archives.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except archives.BROKEN as error:
        _raise_if_not_of_the_file(error, path)
        raise InputError(f"{path}: not a readable .npz file ({error}); text must be stored as a "
                         f"numpy string array, not as objects") from error


def load_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    try:
        with open(path, "rb") as file:
            archives.check_npy(file, path.stat().st_size, path.name)
        return np.load(path, allow_pickle=False)
    except archives.BROKEN as error:
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


def save(value: Any, path: Path) -> None:
    """torch.save, whole or not at all. A view is cloned first: torch would store all behind it.

    The same value gives the same bytes: torch would write the name of a path into the file, but of
    an open file it knows none.
    """
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(_detached(value), file)
        except RuntimeError as error:  # torch's, where it closes what could not be written
            if not isinstance(error.__context__, OSError):
                raise
            raise error.__context__ from None


def remembered(path: Path, origin: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What `path` holds if the .json beside it names this origin, else what `make` returns, which
    is kept there for the next time."""
    def fits() -> bool:
        return path.is_file() and recorded(path.with_suffix(".json")) == origin

    if not fits():
        check_writable(path.parent)
        with alone(path.parent):
            if not fits():  # unless another process has made it meanwhile
                value = make()
                # In this order a crash leaves no file, never one that seems to be of this origin.
                path.unlink(missing_ok=True)
                save_json(origin, path.with_suffix(".json"))
                save(value, path)
    return load(path)


def save_json(value: Any, path: Path) -> None:
    """JSON with strict numbers (None for what is undefined) and paths as text, whole or not at all.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, default=_path_text)
                             + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its place if the block succeeds.

    Flushed to disk before the rename; removed if the block fails, and the old file stays. What a
    killed process left of an earlier attempt is removed, too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as temporary:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """An empty file that is locked as long as its writer lives, and removed at the end."""
    stem = f".{path.name[:100]}."
    for left in path.parent.glob(f"{glob.escape(stem)}*.part"):
        _remove_if_left(left)
    while True:
        temporary = path.parent / f"{stem}{secrets.token_hex(4)}.part"
        with open(temporary, "xb") as file:
            try:
                if _locked(file) and temporary.exists():  # else a sweep took it for a left one
                    yield temporary
                    return
            finally:
                temporary.unlink(missing_ok=True)


def _locked(file: IO) -> bool:
    """Lock it at once or not at all; on a system without locks nobody else can."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_if_left(part: Path) -> None:
    """Remove a temporary file unless the process that writes it still holds its lock."""
    with contextlib.suppress(OSError), open(part, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time: the others wait, and say so. A killed one leaves the folder free.

    For files that belong together, or work that need not be done twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: waiting for another process that writes here", flush=True)
            fcntl.flock(opened, fcntl.LOCK_EX)
        except OSError:
            pass  # some cluster file systems have no locks: then nobody is kept out
        yield
    finally:
        os.close(opened)


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


def _path_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is neither data nor a path")


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return {key: _detached(entry) for key, entry in value.items()}
    return value

