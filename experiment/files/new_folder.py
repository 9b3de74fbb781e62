"""A new folder that appears whole or not at all."""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiment.command.errors import InputError
from experiment.files.writing import try_lock


def check(target: Path) -> None:
    """Raises InputError where the folder cannot be new: something has its name, or no parent."""
    if os.path.lexists(target):
        raise InputError(f"{target}: already there, and nothing is overwritten; choose a name "
                         f"that is free")
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: no folder {target.parent} to make it in")


@contextlib.contextmanager
def making(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that gets its name if the block succeeds.

    Everything is flushed to disk before the one rename: a kill, or a loss of power, leaves no
    target. Removed if the block fails; what a killed process left of an earlier attempt is
    removed, too. Raises InputError as `check` does, also where another process comes first.
    """
    check(target)
    try:
        with _temporary(target.absolute()) as temporary:
            yield temporary
            _flush(temporary)
            check(target)
            os.rename(temporary, target)
            _flush_entry(target.absolute().parent)
    except OSError as error:
        where = error.filename if error.filename and error.filename2 is None else target
        raise InputError(f"{where}: cannot be written or read "
                         f"({error.strerror or error})") from error


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """An empty folder that is locked as long as its writer lives, and removed at the end."""
    stem = f".{target.name[:50]}."  # at most 200 of the 255 bytes of a name
    for left in target.parent.glob(f"{glob.escape(stem)}*.part"):
        _remove_if_left(left)
    while True:
        temporary = target.parent / f"{stem}{secrets.token_hex(4)}.part"
        temporary.mkdir()
        opened = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if try_lock(opened) and temporary.exists():  # else a sweep took it for a left one
                yield temporary
                return
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(opened)


def _remove_if_left(part: Path) -> None:
    """Remove a temporary folder unless the process that writes it still holds its lock."""
    with contextlib.suppress(OSError):
        opened = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part, ignore_errors=True)
        finally:
            os.close(opened)


def _flush(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for path in (Path(root, name) for name in names):
            if not path.is_symlink():
                with open(path, "rb") as written:
                    os.fsync(written.fileno())
        _flush_entry(Path(root))


def _flush_entry(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system flushes folders
            os.fsync(opened)
    finally:
        os.close(opened)
