"""Writing files: each appears whole or not at all; and caches, with a note of their origin."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from experiment.command.errors import InputError
from experiment.command.escaping import printable
from experiment.files.reading import load, recorded

TEMPORARY = re.compile(r"\.(.*\.)?[0-9a-f]{8}\.part", re.DOTALL)


def save(value: Any, path: Path) -> None:
    """torch.save, whole or not at all. A view is cloned first, or torch would store its whole base.

    The same value gives the same bytes: given a path, torch would write its name into the file, so
    it is given an open file.
    """
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(_detached(value), file)
        except RuntimeError as error:  # raised by torch when it closes a file after a failed write
            if not isinstance(error.__context__, OSError):
                raise
            raise error.__context__ from None


def cached(path: Path, origin: dict[str, Any], make: Callable[[], Any], *,
           read: Callable[[Path], Any] = load, published: bool = False) -> Any:
    """`read(path)`, after saving what `make` returns there unless the file `is_from` this origin.

    The origin is kept in a .json file beside it.
    """
    if not is_from(path, origin, published=published):
        check_writable(path.parent)
        with locked(path.parent):
            if not is_from(path, origin, published=published):  # made by another process meanwhile
                value = make()
                # In this order a crash leaves no file, never one with a wrong origin.
                path.unlink(missing_ok=True)
                save_json(origin, path.with_suffix(".json"))
                save(value, path)
    return read(path)


def is_from(path: Path, origin: dict[str, Any], *, published: bool = False) -> bool:
    """Whether the file is there, and the .json beside it names this origin.

    A value of None stands for "not known" and fits any. With `published` a file without a .json,
    which was not written here, fits any origin.
    """
    sidecar = path.with_suffix(".json")
    known = recorded(sidecar)
    return path.is_file() and (published and not sidecar.is_file() or all(
        known.get(key) == value for key, value in origin.items() if value is not None))


def distinct(name: str, *places: object) -> str:
    """<name>-<8 hexadecimal digits>: data of one name in other places share no file."""
    digest = hashlib.sha256(os.fsencode("\0".join(map(str, places))))
    return f"{name}-{digest.hexdigest()[:8]}"


def save_json(value: Any, path: Path) -> None:
    """JSON with strict numbers (None for what is undefined) and paths as text, whole or not at all.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, default=_path_text)
                             + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it if the block succeeds.

    Flushed to disk before the rename. If the block fails it is removed and the old file stays.
    What killed processes left of this file is removed, too.
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
    """An empty file, locked as long as its writer lives, removed at the end."""
    stem = f".{path.name[:100]}."
    for left in path.parent.glob(f"{glob.escape(stem)}*.part"):
        _remove_if_left(left)
    while True:
        temporary = path.parent / f"{stem}{secrets.token_hex(4)}.part"
        try:  # from before it is opened, as a signal may come at any time
            with open(temporary, "xb") as file:
                if try_lock(file) and temporary.exists():  # else swept as a leftover
                    yield temporary
                    return
        finally:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files in a folder of results whose writers live no more, whatever they
    wrote. Partial downloads, which have names of another form, stay."""
    for left in folder.glob(".*.part"):
        if TEMPORARY.fullmatch(left.name):
            _remove_if_left(left)


def try_lock(file: IO | int) -> bool:
    """Lock an open file or folder unless another process has locked it.

    True, too, on cluster file systems without locks, where locking has no effect.
    """
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
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time run the block for this folder; others wait and print that they do.

    For files that belong together, or work that need not be done twice. A killed process leaves
    the folder free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        if not try_lock(opened):
            print(f"{printable(str(folder))}: waiting for another process that writes here",
                  flush=True)
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def check_writable(folder: Path) -> None:
    """Create the folder and a file in it, so that a run fails before hours of work, not after.

    What killed processes left in the folder is removed.

    Raises InputError if that fails.
    """
    probe = folder / f".{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)  # perhaps swept by another process
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
