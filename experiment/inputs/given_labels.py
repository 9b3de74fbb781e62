"""Labels of a table as text: one spelling for each class, and "" where there is no label."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from experiment.command.errors import InputError
from experiment.inputs.tables import text_of

# What programs write for a missing value; none in lower case, as it may be a class of its own.
NO_LABEL = {"", "nan", "NaN", "NAN", "None", "NA", "<NA>", "N/A", "#N/A", "n/a", "null", "NULL",
            "NaT", "-"}  # the last of SNLI, where the annotators did not agree
UNKNOWN = "-1"  # the convention of Hugging Face's datasets
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
WHOLE = re.compile(r"([+-]?\d+)\.0*")
SEVERAL = re.compile(r"\[.*\]", re.DOTALL)


def same_form(text: str) -> str:
    """The text in Unicode's composed form (NFC): é is one letter, however it was typed."""
    return unicodedata.normalize("NFC", text)


def read(source: str, values: Sequence[Any]) -> list[str]:
    """The labels (N,) of a column, "" for none.

    Where all numbers are whole, 1.0 is 1. -1 is no label, unless fewer than two classes are left
    without it. A list of one, as doccano exports it, is that label. Raises InputError for rows with
    several.
    """
    known: dict[str, str] = {}  # as labels come again, each is looked at once
    texts = []
    for row, value in enumerate(values):
        text = value if isinstance(value, str) else text_of(_only(source, row, value))
        if text not in known:
            # JSON can hold half a surrogate pair, which UTF-8 cannot.
            form = same_form(text.strip()).encode("utf-8", "replace").decode()
            known[text] = "" if form in NO_LABEL else form
        texts.append(known[text])
    names = {*texts} - {""}
    if names and all(map(SEVERAL.fullmatch, names)):
        first = next(row for row, text in enumerate(texts) if text)
        raise _several(source, first, texts[first])
    numbers = set(filter(NUMBER.fullmatch, names))
    whole = {text: WHOLE.fullmatch(text) for text in numbers if "." in text}
    if all(whole.values()):
        texts = [whole[text][1] if text in whole else text for text in texts]
    if len(set(texts) - {"", UNKNOWN}) > 1:
        texts = ["" if text == UNKNOWN else text for text in texts]
    return texts


def _only(source: str, row: int, value: Any) -> Any:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return value
    if isinstance(value, dict) or len(value) > 1 or len(value) and not isinstance(
            value[0], str) and hasattr(value[0], "__len__"):
        raise _several(source, row, value)
    return value[0] if len(value) else None


def _several(source: str, row: int, value: Any) -> InputError:
    return InputError(f"{source}: labels: expected one for each row, got several, {value!r:.80}, "
                      f"in row {row}; write a row for each, or the main one alone")
