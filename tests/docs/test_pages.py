"""Links lead somewhere, commands are understood, files and options that pages name are there."""

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import PurePosixPath

import pytest

from tests.conftest import ROOT
from tests.docs import pages

# Commands that no parser of this project reads, and why that is enough.
ELSEWHERE = {
    "pip check": ".ci/run runs it",
    "pip-audit -r requirements.txt": "asks a list of vulnerabilities on the network",
    "python -m venv .venv": "part of Python",
    ". .venv/bin/activate": "part of Python",
    "apt-get install chromium": ".ci/run does it",
    "ruff check": ".ci/run runs it",
    "mypy": ".ci/run runs it",
    "ruff format": "named as not used",
    ".ci/run": "is the run of the CI itself",
}
# Options of programs from elsewhere, in inline code.
THEIR_OPTIONS = {"--nproc-per-node": "torchrun", "--fault-seed": "tests/promises.py",
                 "--fuzz-count": "tests/promises.py"}
EXTENSIONS = (".py", ".md", ".toml", ".js", ".css")
MADE_BY_RUNS = re.compile(r"(^|/)results/")
COMMANDS = sorted({(page, command) for page in pages.PAGES for command in pages.commands(page)})


@cache
def parser_of(script):
    return runpy.run_path(str(ROOT / script))["get_args_parser"]()


def script_named(page, name):
    """A script as it is called in the page's own folder, or else from the root."""
    beside = (ROOT / page).parent / name
    return str(beside.relative_to(ROOT) if beside.is_file() else name)


@cache
def options_of_pytest():
    """Its own, and those of this project's conftest and promises."""
    shown = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout
    return set(re.findall(r"(?<![\w-])--?\w[\w-]*", shown))


def check_pytest(words):
    """Paths exist, markers are declared, options are known."""
    declared = {line.split(":")[0] for line in tomllib.loads(
        (ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]}
    for before, word in zip(["", *words], words):
        if before == "-m":
            assert word in declared | {"promise"}, word
        elif word.startswith("-"):
            assert word.split("=")[0] in options_of_pytest(), word
        elif not before.startswith("-"):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page, command", COMMANDS)
def test_commands_are_understood(page, command):
    words = shlex.split(command)
    if command.startswith("python -m pytest"):
        check_pytest(words[3:])
    elif command.startswith("pip install -r "):
        assert (ROOT / words[-1]).is_file()
    elif not command.startswith(tuple(ELSEWHERE)):
        if words[0] == "torchrun":
            from torch.distributed.run import get_args_parser

            told = get_args_parser().parse_args(words[1:])
            words = ["python", told.training_script, *told.training_script_args]
        assert words[0] == "python", f"{page}: who runs {command!r}?"
        parser_of(script_named(page, words[1])).parse_args(words[2:])


def test_every_reason_is_needed():
    for start in ELSEWHERE:
        assert any(command.startswith(start) for _, command in COMMANDS), start


@pytest.mark.parametrize("page", pages.PAGES)
def test_blocks_say_what_they_hold(page):
    """So that no command hides from the test above."""
    for block in pages.blocks(page):
        assert block.language in ("bash", "text", "python", "bibtex"), block
        assert block.language == "bash" or not re.search(
            r"^(\$ )?(python|pip|torchrun) ", block.text, re.MULTILINE), block


@pytest.mark.parametrize("page, target", [
    (page, target) for page in pages.PAGES for target in pages.links(page)])
def test_links_lead_to_files_and_headings(page, target):
    if target.startswith("https://"):
        return  # another's page, on the network
    path, _, anchor = target.partition("#")
    found = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    name = found.relative_to(ROOT).as_posix()
    assert name in pages.TRACKED and found.is_file(), f"{page} links to {name}"
    assert not anchor or anchor in pages.anchors(name), f"{name} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.endswith(".md"):
            reached.add(page)
            ahead += [((ROOT / page).parent / target.split("#")[0]).resolve().relative_to(ROOT)
                      .as_posix() for target in pages.links(page)
                      if not target.startswith(("https://", "#"))]
    # GitHub shows the page of results/ to whoever opens the folder.
    assert reached == set(pages.PAGES) - {"results/README.md"}


@pytest.mark.parametrize("page", pages.PAGES)
def test_files_and_folders_that_a_page_names_are_there(page):
    """Paths from the root or the page's folder; names without a folder anywhere in the tree."""
    top = {PurePosixPath(name).parts[0] for name in pages.TRACKED}
    names = {PurePosixPath(name).name for name in pages.TRACKED}
    for code in filter(re.compile(r"[\w./-]+").fullmatch, pages.inline_code(page)):
        if "/" not in code:
            assert not code.endswith(EXTENSIONS) or code in names, f"{page} names {code}"
        elif code.split("/")[0] in top and not MADE_BY_RUNS.search(code):
            assert ((ROOT / page).parent / code).exists() or (ROOT / code).exists(), \
                f"{page} names {code}"


@pytest.mark.parametrize("page", pages.PAGES)
def test_options_that_a_page_names_are_some_script_s(page):
    scripts = [name for name in pages.TRACKED if name.endswith(".py") and "/tests" not in f"/{name}"
               and "launch(main, get_args_parser())" in pages.read(name)]
    known = {option for script in scripts for action in parser_of(script)._actions
             for option in action.option_strings} | set(THEIR_OPTIONS)
    for code in pages.inline_code(page):
        for option in re.findall(r"^--\w[\w-]*", code):
            assert option in known, f"{page} names {option}"


def test_a_wrong_command_link_or_file_would_be_noticed():
    with pytest.raises(SystemExit):
        test_commands_are_understood("README.md", "python detect.py --no_such_option")
    with pytest.raises(AssertionError, match="who runs"):
        test_commands_are_understood("README.md", "perl detect.py")
    with pytest.raises(AssertionError, match="no_such_file"):
        check_pytest(["tests/no_such_file.py"])
    with pytest.raises(AssertionError, match="--no-such-option"):
        check_pytest(["--no-such-option"])
    with pytest.raises(AssertionError, match="no heading"):
        test_links_lead_to_files_and_headings("README.md", "docs/data.md#no-such-heading")
