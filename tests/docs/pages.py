"""The pages of the project, taken apart: fenced blocks, inline code, links, anchors, commands."""

import re
import subprocess
from typing import NamedTuple

from tests.conftest import ROOT

TRACKED = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                         cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [name for name in TRACKED if name.endswith(".md") and (ROOT / name).is_file()]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    return [Block(*found) for found in FENCE.findall(read(page))]


def prose(page):
    """The page without its fenced blocks."""
    return FENCE.sub("", read(page))


def inline_code(page):
    """What stands between backticks; a line break counts as a space."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def links(page):
    """Targets of links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page):
    """What a link may name behind #: headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """One shell command each: lines of the bash blocks, and inline code that starts with python."""
    lines = [line for block in blocks(page) if block.language == "bash"
             for line in block.text.splitlines()]
    lines += [code for code in inline_code(page)
              if re.match(r"(python|pip|torchrun|ruff|apt-get|pip-audit) ", code)]
    for line in lines:
        yield from filter(None, (part.strip() for part in re.sub(r"(^|\s)#.*", "", line)
                                 .split("&&")))
