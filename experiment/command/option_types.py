"""Types of options: each function takes the text and returns the value.

All raise argparse.ArgumentTypeError, whose message says what was expected.
"""

import argparse
import math
import re
from collections.abc import Callable

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}")  # cannot lead out of a folder


def positive_integer(text: str) -> int:
    return int(_number(text, int, "a whole number of at least 1", lambda value: value >= 1))


def integer_from_zero(text: str) -> int:
    return int(_number(text, int, "a whole number of at least 0", lambda value: value >= 0))


def positive_number(text: str) -> float:
    return _number(text, float, "a number above 0",
                   lambda value: value > 0 and math.isfinite(value))


def temperature_of(text: str) -> float:
    from relation.scores import LARGEST_TEMPERATURE  # imports torch, which --help need not wait for

    return _number(text, _whole_or_not, f"a number above 0, up to {LARGEST_TEMPERATURE}",
                   lambda value: 0 < value <= LARGEST_TEMPERATURE)


def number_from_zero(text: str) -> float:
    return _number(text, float, "a number of at least 0",
                   lambda value: value >= 0 and math.isfinite(value))


def share(text: str) -> float:
    return _number(text, float, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def duplicates_of(text: str) -> float | str:
    if text in ("auto", "off"):
        return text
    return _number(text, float, "auto, off, or a cosine from 0 to below 1",
                   lambda value: 0 <= value < 1)


def above_zero_to_one(text: str) -> float:
    return _number(text, float, "a number above 0, up to 1", lambda value: 0 < value <= 1)


def named_sizes(text: str) -> tuple[tuple[str, int], ...]:
    try:
        pairs = [entry.split(":") for entry in text.split(",")]
        sizes = tuple((name.strip(), positive_integer(rows)) for name, rows in pairs)
    except ValueError:
        sizes = ()
    if not all(name for name, _ in sizes) or len(dict(sizes)) != len(sizes) or not sizes:
        raise argparse.ArgumentTypeError(f"expected NAME:ROWS,NAME:ROWS,... with different names, "
                                         f"got {text!r}")
    return sizes


def truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return known[text.lower()]


def device_name(text: str) -> str:
    kind, _, number = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in text and not (
            kind == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


def folder_name(text: str) -> str:
    if not FOLDER_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '.', '_' and '-', first a "
                                         f"letter or digit, at most 100, got {text[:100]!r}")
    return text


def _whole_or_not(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _number(text: str, kind: Callable[[str], float], expected: str,
            allowed: Callable[[float], bool]) -> float:
    try:
        value = kind(text)
    except (ValueError, OverflowError):
        value = math.nan
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
