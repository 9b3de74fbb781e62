"""Writing files: each appears whole or not at all, and those that belong together in turn."""

import contextlib
import fcntl
import glob
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from experiment.command.errors import InputError
from experiment.command.escaping import printable
from experiment.files.reading import load, recorded


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
            print(f"{printable(str(folder))}: waiting for another process that writes here",
                  flush=True)
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
