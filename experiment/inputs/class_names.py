"""Class names that probably mean the same: typing errors among them, each with a suggestion.

Two names are called the same where they differ

- by case, white space, Unicode form (NFKC) or invisible characters alone; the one with more rows is
  suggested; or
- by one edit (a letter more, less or another, or two neighbours swapped), and the one is rare and
  the other is not: at most FEW rows, and at least TIMES as many in the other. A letter makes other
  words (cat, car; class_1, class_2), so only letters count, in words of at least LONG letters; and
  two classes with many rows are two classes, however alike their names.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

FEW = 5  # rows of a class that may be a typing error
TIMES = 10  # as many rows has the class that it is an error for
LONG = 5  # letters of the word, in the suggested name; shorter words have too many neighbours
INVISIBLE = ("Cc", "Cf")  # Unicode's controls and formats
VARIATIONS = ("\ufe00", "\ufe0f")  # the first and last of the selectors of a letter's form


class SameName(NamedTuple):
    """A class name, the one that is probably meant, and how many rows carry the former."""

    name: str
    suggested: str
    rows: int


def same_names(rows: Mapping[str, int]) -> list[SameName]:
    """The probable typing errors among class names, given the rows of each, in their order."""
    spellings = defaultdict(list)
    for name in rows:
        spellings[_folded(name)].append(name)
    found = {}
    for names in spellings.values():
        best = max(names, key=rows.get)  # of equals the first
        found |= {name: best for name in names if name != best}
    total = {folded: sum(rows[name] for name in names) for folded, names in spellings.items()}
    for rare, meant in _one_edit_away(total):
        best = max(spellings[meant], key=rows.get)
        found |= {name: best for name in spellings[rare]}
    return [SameName(name, found[name], rows[name]) for name in rows if name in found]


def _folded(name: str) -> str:
    """The name without what does not count; empty names fold to themselves."""
    name = unicodedata.normalize("NFKC", name).casefold()
    visible = "".join(letter for letter in name if letter.isspace() or not _invisible(letter))
    return unicodedata.normalize("NFKC", " ".join(visible.split()))


def _invisible(letter: str) -> bool:
    return unicodedata.category(letter) in INVISIBLE or VARIATIONS[0] <= letter <= VARIATIONS[1]


def _one_edit_away(rows: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(rare name, the largest class that it is one edit from), of folded names.

    Names one edit apart share one of the texts that are left when at most one letter goes: so only
    those are compared, and thousands of classes take no time.
    """
    by_rest = defaultdict(set)
    for name in rows:
        for rest in _rests(name):
            by_rest[rest].add(name)
    for rare in rows:
        if not 0 < rows[rare] <= FEW:
            continue
        alike = {name for rest in _rests(rare) for name in by_rest[rest]
                 if rows[name] >= TIMES * rows[rare] and _letter_apart(rare, name)}
        if alike:
            yield rare, max(alike, key=lambda name: (rows[name], name))


def _rests(name: str) -> set[str]:
    return {name, *(name[:at] + name[at + 1:] for at in range(len(name)))}


def _letter_apart(name: str, meant: str) -> bool:
    """Whether one edit of letters, in a long word, turns `meant` into `name`."""
    start = 0
    while start < min(len(name), len(meant)) and name[start] == meant[start]:
        start += 1
    end = 0
    while end < min(len(name), len(meant)) - start and name[-1 - end] == meant[-1 - end]:
        end += 1
    here, there = name[start:len(name) - end], meant[start:len(meant) - end]
    swapped = len(here) == 2 and here == there[::-1]
    if not swapped and max(len(here), len(there)) != 1:
        return False
    if not (here + there).isalpha():
        return False
    stop = len(meant) - end
    while start > 0 and meant[start - 1].isalpha():
        start -= 1
    while stop < len(meant) and meant[stop].isalpha():
        stop += 1
    return stop - start >= LONG
