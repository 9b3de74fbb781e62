"""What a file of arrays says of itself, checked against the file before anything is allocated.

torch.save and numpy.savez write zip archives, whose directory holds the size and the CRC-32 of
every entry. A size beyond the file's own is a bomb or a cut, another CRC a flipped bit; torch and
the operating system's memory map would take either as numbers. All raise ValueError or what zipfile
raises (`BROKEN`). Files of torch before 1.6, .npy and .safetensors carry no checksum: of these only
sizes are checked.
"""

import math
import os
import tokenize
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from numpy.lib import format as npy

from experiment import bombs

MAGIC = b"PK\x03\x04"  # by which torch tells a zip archive
END_BYTES = 22  # of the end of a directory without a comment
STEP = 2**20  # bytes read at a time
# How much larger than the file its entries may be unpacked: one-hot rows of a thousand classes
# shrink to a hundredth, and a small file may hold nothing but zeros.
LARGEST_RATIO = 200
ALWAYS_ALLOWED = 2**28  # bytes
LEGACY_PICKLES = 5  # magic number, version, sizes of the machine, the content, its storages
# numpy reads a header as a Python literal.
BROKEN = (ValueError, OSError, EOFError, RuntimeError, LookupError, TypeError, MemoryError,
          SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def check_torch(path: Path) -> Counter[int]:
    """Check an archive of torch.save; returns how many tensor storages there are of each size.

    Its pickles are checked too, as `bombs.check_calls` says.
    """
    with zipfile.ZipFile(path) as archive:
        entries = _entries(archive, path)
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its entry {entry.filename!r} is compressed")
            # Some writers leave the checksum out; 0 then stands for none.
            if entry.CRC or not entry.file_size:
                _read_through(archive, entry)
            if entry.filename.lower().endswith("data.pkl"):  # torch finds it in either case
                with archive.open(entry) as file:
                    bombs.check_calls(file, entry.file_size)
        return Counter(entry.file_size for entry in entries
                       if PurePosixPath(entry.filename).parent.name == "data")


def check_legacy_torch(path: Path) -> Counter[int]:
    """Check the pickles at the head of a file of torch before 1.6, which says no sizes."""
    with open(path, "rb") as file:
        for _ in range(LEGACY_PICKLES):
            bombs.check_calls(file, path.stat().st_size)
    return Counter()


def check_npz(path: Path) -> None:
    """Check an archive of numpy.savez or savez_compressed; reading it then compares the CRCs."""
    with zipfile.ZipFile(path) as archive:
        entries = _entries(archive, path)
        unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if unpacked > max(ALWAYS_ALLOWED, LARGEST_RATIO * size):
            raise ValueError(f"its entries claim {unpacked:,} bytes unpacked, {unpacked // size} "
                             f"times the file")
        for entry in entries:
            with archive.open(entry) as file:
                check_npy(file, entry.file_size, entry.filename)


def check_npy(file: BinaryIO, size: int, name: str) -> None:
    """Check that the array which a .npy header announces fills the `size` bytes of the file."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except MemoryError as error:  # that of Python's parser, whatever is free
        raise ValueError(f"{name}: its header is nested too deeply") from error
    if dtype.hasobject:
        raise ValueError(f"{name}: holds Python objects")
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - file.tell():
        raise ValueError(f"{name}: its header announces {expected:,} bytes, there are "
                         f"{size - file.tell():,}")


def _entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The entries, if all together fit in the file and none has the name of another place."""
    entries = archive.infolist()
    counted = _counted(path)
    if counted is not None and counted != len(entries):
        raise ValueError(f"its directory names {len(entries)} of {counted} entries")
    packed, size = sum(entry.compress_size for entry in entries), path.stat().st_size
    if packed > size or any(entry.compress_type == zipfile.ZIP_STORED
                            and entry.file_size != entry.compress_size for entry in entries):
        raise ValueError(f"its entries claim more than its {size:,} bytes")
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two of its entries have one name")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise ValueError(f"its entry {name!r} leads out of the file")
    return entries


def _counted(path: Path) -> int | None:
    """How many entries the end of the archive says there are: zipfile does not ask, and a wrong
    length in the directory hides entries from it. None where it stands elsewhere (ZIP64)."""
    with open(path, "rb") as file:
        file.seek(-END_BYTES, os.SEEK_END)
        end = file.read()
    counted = int.from_bytes(end[10:12], "little")
    return counted if end.startswith(b"PK\x05\x06") and counted < 0xffff else None


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """zipfile compares the CRC when it comes to the end."""
    with archive.open(entry) as file:
        while file.read(STEP):
            pass
