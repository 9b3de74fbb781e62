"""Untrusted text, made safe for a cell of a CSV file and for the terminal.

Identifiers, class names and groups come from the data: file names, or whole texts.
"""

import re

# The beginning of what spreadsheets take for a formula, whatever invisible characters precede it;
# the last four are full-width forms, which some programs treat like the plain ones.
FORMULA = re.compile(r"[\s\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*"
                     r"[=+\-@\uff1d\uff0b\uff0d\uff20]")


def cell(text: str) -> str:
    """Text for a cell of a CSV file; a leading ' keeps spreadsheets from computing a formula.

    A number stays as it is, a negative one too; what is no Unicode (half a surrogate pair, as in
    file names of another encoding) is written as \\udc.. in letters.
    """
    if FORMULA.match(text) and not _is_number(text):
        text = "'" + text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def written_forms(text: str) -> tuple[str, ...]:
    """What a cell may hold that stands for `text`: itself, as `cell` writes it, and as a browser
    does, which has one sign for all that is no Unicode."""
    replaced = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text, cell(text), replaced, cell(replaced)


def plain(text: str) -> str:
    """What `cell` made this of, where that is known."""
    return text[1:] if text.startswith("'") and cell(text[1:]) == text else text


def printable(text: str) -> str:
    """Text for the terminal, on one line: control characters as \\x1b and the like.

    They could move the cursor, or hide or reverse the text around them.
    """
    return "".join(letter if letter.isprintable() else
                   letter.encode("unicode_escape").decode("ascii") for letter in text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
