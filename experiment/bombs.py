"""What a small file of torch must not become: calls that return any size, lists in lists in lists.

All raise ValueError.
"""

import argparse
import math
import pickletools
from typing import Any, BinaryIO

import numpy as np
import torch

# torch has more kinds, of single bits and quantised, which it cannot convert to any of these.
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
            torch.uint16, torch.uint32, torch.uint64)
ALWAYS_ALLOWED = 10**6  # entries of a file, however small it is
ENCODE = object()  # the function, where it lies on a pickle's stack


def check_calls(file: BinaryIO, size: int) -> None:
    """Refuse in a pickle the two calls that weights_only allows and that return any size.

    These are bytearray, and _codecs.encode, which may be given its own output (hex doubles it).
    torch writes the latter for bytes, as in numpy arrays: for a text in latin1. What an opcode puts
    on the stack is followed here as far as that takes: None stands for all but texts and ENCODE.
    """
    memo: dict[int, object] = {}
    below, second, top, encoded = None, None, None, 0  # the last three that were put there
    for opcode, argument, _ in pickletools.genops(file):
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
    """Refuse what would be larger than the file of so many bytes once it is read."""
    if _entries(content, size, {}) > max(size, ALWAYS_ALLOWED):
        raise ValueError("holds lists inside one another without end")


def _entries(value: Any, size: int, counted: dict[int, float]) -> float:
    """How many entries the value has, with those of all lists and the like inside it.

    One that stands in two places counts twice, since whoever reads it goes through it twice; one
    that holds itself has no end. `counted` knows those that were seen, by their id. A file without
    such tricks has no more entries than bytes.
    """
    if isinstance(value, torch.Tensor) and (
            value.layout != torch.strided or value.is_meta or value.is_quantized):
        raise ValueError("holds a tensor that is not stored in full")
    if isinstance(value, torch.Tensor) and not (
            value.is_floating_point() or value.is_complex() or value.dtype in INTEGERS):
        raise ValueError(f"holds a tensor of {value.dtype}, which are no numbers")
    bytes_ = value.nbytes if isinstance(value, (torch.Tensor, np.ndarray)) else \
        len(value) if isinstance(value, (str, bytes)) else 0
    if bytes_ > size:
        raise ValueError(f"claims {bytes_:,} bytes, more than the {size:,} of the file")
    inside = vars(value) if isinstance(value, argparse.Namespace) else value
    if not isinstance(inside, (dict, list, tuple, set)):
        return 1
    if id(value) not in counted:
        counted[id(value)] = math.inf  # until it is known
        counted[id(value)] = 1 + sum(_entries(entry, size, counted) for entry in (
            inside.values() if isinstance(inside, dict) else inside))
    return counted[id(value)]
