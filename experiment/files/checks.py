"""Checks of a file of arrays against what it claims, before anything is allocated.

torch.save and numpy.savez write zip archives, whose directory holds the size and the CRC-32 of
every entry. A size beyond the file's own means a bomb or a truncated file, a different CRC a
flipped bit; torch and the memory map would read either as numbers. All checks raise ValueError or
what zipfile raises (`BROKEN`). Files of torch before 1.6, .npy and .safetensors carry no checksum:
only their sizes are checked.
"""

import argparse
import math
import pickle
import pickletools
import re
import struct
import sys
import tokenize
import types
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError
from tqdm import tqdm

MAGIC = b"PK\x03\x04"  # by which torch recognises a zip archive
STEP = 2**20  # bytes read at a time
# How much larger than the file its unpacked entries may be: one-hot rows of a thousand classes
# compress to a hundredth, and a small file may hold nothing but zeros.
LARGEST_RATIO = 200
BYTES_ALLOWED = 2**28  # unpacked, however small the file is
LEGACY_PICKLES = 5  # magic number, version, sizes of the machine, the content, its storages
# What the libraries raise for a file or a folder of weights that is broken: numpy, which reads a
# header as a Python literal, torch, the unpickler, safetensors, and transformers on top of these.
BROKEN = (ValueError, OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError,
          AssertionError, MemoryError, SyntaxError, ArithmeticError, SystemError,
          tokenize.TokenError, struct.error, pickle.UnpicklingError, SafetensorError,
          zipfile.BadZipFile, zlib.error)


# Other kinds of files under a name for tensors, by their first bytes, and what to do.
OTHER_KINDS = (
    (rb"\s*(<!doctype|<html|<head|<\?xml)", "a web page: the link led to the page about the file; "
     "download the file itself"),
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file; git lfs pull brings "
     "it"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes it; save the weights with torch.save"),
    (rb".{7}\0\{\"", "a safetensors file; let its name end in .safetensors"),
    (rb"\x1f\x8b", "compressed by gzip; unpack it"),
    (rb"BZh\d1AY", "compressed by bzip2; unpack it"),
    (rb"\xfd7zXZ", "compressed by xz; unpack it"),
    (rb"\s*\{\s*\"(error|message|detail)", "a server's message in place of the file; download it "
     "again"))


def another_kind(path: Path) -> str:
    """What a file that cannot be read holds instead, if its beginning says so; or ""."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        head = file.read(200)
    return next((kind for pattern, kind in OTHER_KINDS
                 if re.match(pattern, head, re.IGNORECASE | re.DOTALL)), "")


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def check_torch(path: Path, *, progress: bool = False) -> Counter[int]:
    """Check an archive of torch.save; returns how many tensor storages there are of each size.

    Its pickles are checked too, as `check_calls` says.
    """
    with zipfile.ZipFile(path) as archive:
        entries = _zip_entries(archive, path)
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its entry {entry.filename!r} is compressed")
            # Some writers leave out the checksum; 0 then means none.
            if entry.CRC or not entry.file_size:
                _read_through(archive, entry, progress=progress)
            if entry.filename.lower().endswith("data.pkl"):  # torch finds it in either case
                with archive.open(entry) as file:
                    check_calls(file, entry.file_size)
        return Counter(entry.file_size for entry in entries
                       if PurePosixPath(entry.filename).parent.name == "data")


def check_legacy_torch(path: Path) -> Counter[int]:
    """Check the pickles at the head of a file of torch before 1.6, which holds no sizes."""
    with open(path, "rb") as file:
        for _ in range(LEGACY_PICKLES):
            check_calls(file, path.stat().st_size)
    return Counter()


def check_npz(path: Path) -> None:
    """Check an archive of numpy.savez or savez_compressed; reading it then compares the CRCs."""
    with zipfile.ZipFile(path) as archive:
        entries = _zip_entries(archive, path)
        unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if unpacked > max(BYTES_ALLOWED, LARGEST_RATIO * size):
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
    except MemoryError as error:  # raised by Python's parser, however much memory is free
        raise ValueError(f"{name}: its header is nested too deeply") from error
    if dtype.hasobject:
        raise ValueError(f"{name}: holds Python objects")
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - file.tell():
        raise ValueError(f"{name}: its header announces {expected:,} bytes, there are "
                         f"{size - file.tell():,}")


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The entries, if all together fit in the file and no name leads out of it."""
    entries = archive.infolist()
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


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, progress: bool) -> None:
    """zipfile compares the CRC when it comes to the end."""
    with archive.open(entry) as file, \
            tqdm(total=entry.file_size, desc="checksum", unit="B", unit_scale=True, delay=1,
                 disable=not progress) as bar:
        while read := file.read(STEP):
            bar.update(len(read))


# torch has more types, of single bits and quantised, which it cannot convert to any of these.
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
            torch.uint16, torch.uint32, torch.uint64)
ENTRIES_ALLOWED = 10**6  # however small the file is
ENCODE = object()  # stands for _codecs.encode on the stack of a pickle


class _Bounded(NamedTuple):
    """A file that reads no more bytes than it has, and so never reserves memory for what a pickle
    only claims."""

    file: BinaryIO
    size: int

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size))

    def readline(self) -> bytes:
        return self.file.readline()


def check_calls(file: BinaryIO, size: int) -> None:
    """Refuse the two calls in a pickle that weights_only allows although they return any size.

    These are bytearray, and _codecs.encode, which may be applied to its own output (hex doubles
    it). torch itself writes the latter for bytes, such as those of numpy arrays, with a text and
    latin1 as arguments. Only as much of the stack is simulated: None stands for anything but a text
    and ENCODE.
    """
    memo: dict[int, object] = {}
    below, second, top, encoded = None, None, None, 0  # the last three pushed
    for opcode, argument, _ in pickletools.genops(_Bounded(file, size)):
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = top
            continue
        if below is ENCODE:
            if opcode.name != "TUPLE2" or top != "latin1" or not isinstance(second, str):
                raise ValueError("calls _codecs.encode as torch.save does not")
            encoded += len(second)
            if encoded > size:
                raise ValueError("claims more bytes than the file has")
        put = None
        if opcode.name == "GLOBAL":
            if argument.endswith(" bytearray"):
                raise ValueError("calls bytearray")
            put = ENCODE if argument == "_codecs encode" else None
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            put = memo.get(argument)
        elif opcode.name == "BINUNICODE":
            put = argument
        below, second, top = second, top, put


def check_content(content: Any, size: int) -> None:
    """Raise ValueError for content that is larger than its file of `size` bytes."""
    if _entries(content, size, {}) > max(size, ENTRIES_ALLOWED):
        raise ValueError("holds lists inside one another without end")


def _entries(value: Any, size: int, counted: dict[int, float]) -> float:
    """Number of entries of a value, including those of all containers inside it.

    Shared objects count once per reference; cycles count as infinite. `counted` holds the count of
    each container seen so far, by id. An honest file has no more entries than bytes.
    """
    if isinstance(value, torch.Tensor) and (
            value.layout != torch.strided or value.is_meta or value.is_quantized):
        raise ValueError("holds a tensor that is not stored in full")
    if isinstance(value, torch.Tensor) and not (
            value.is_floating_point() or value.is_complex() or value.dtype in INTEGERS):
        raise ValueError(f"holds a tensor of {value.dtype}, which are not numbers")
    if isinstance(value, (np.ndarray, np.generic)):
        _check_kind(value)
    bytes_ = value.nbytes if isinstance(value, (torch.Tensor, np.ndarray)) else \
        len(value) if isinstance(value, (str, bytes)) else 0
    if bytes_ > size:
        raise ValueError(f"claims {bytes_:,} bytes, more than the {size:,} of the file")
    if isinstance(value, range) and (value[:ENTRIES_ALLOWED] != value):  # however few its bytes
        raise ValueError(f"claims the numbers of {value}")
    spaces = (argparse.Namespace, types.SimpleNamespace)
    inside = vars(value) if isinstance(value, spaces) else value
    if not isinstance(inside, (dict, list, tuple, set)):
        return 1
    if id(value) not in counted:
        counted[id(value)] = math.inf  # until it is counted
        counted[id(value)] = 1 + sum(_entries(entry, size, counted) for entry in (
            inside.values() if isinstance(inside, dict) else inside))
    return counted[id(value)]


def _check_kind(array: np.ndarray | np.generic) -> None:
    """A pickle can give numpy's kinds any size and flags."""
    kind = array.dtype
    if kind.kind not in "biufcSU":
        raise ValueError(f"holds an array of {kind}, which is neither numbers nor text")
    plain = np.dtype(kind.str)
    if (kind.itemsize, kind.flags, kind.alignment) != (
            plain.itemsize, plain.flags, plain.alignment):
        raise ValueError(f"holds an array of {kind} with sizes or flags of its own")
    check_letters(array)


def check_letters(array: np.ndarray | np.generic) -> None:
    """Raise ValueError for text of numpy with numbers that are no letters: Python cannot hold it.
    """
    kind = array.dtype
    if kind.kind == "U" and isinstance(array, np.ndarray) and kind.itemsize and array.size:
        letters = np.ascontiguousarray(array).astype(kind.newbyteorder("=")).view(np.uint32)
        if letters.max() > sys.maxunicode:
            raise ValueError("holds a text with a letter that Unicode does not have")
