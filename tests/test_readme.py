"""The README is what a newcomer follows: its commands must parse, its file tree must be true."""

import re
import runpy
import shlex
import subprocess

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python ((?:\w+/)?\w+\.py(?: [^\n`&|]+)?)", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    script, *words = shlex.split(command, comments=True)
    runpy.run_path(str(ROOT / script))["get_args_parser"]().parse_args(words)


def test_the_two_commands_stand_alone_on_their_lines():
    first, second = re.findall(r"^pip install -r .*$", README, re.MULTILINE)
    assert first.endswith("python detect.py -n digits_noise0.08_60 --pow 4")
    assert second == "pip install -r requirements-dev.txt && python -m pytest"


def test_the_file_tree_names_every_file():
    tree = README.split("## Files")[1].split("```")[1]
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.split()
    for path in listed:
        if not path.startswith("tests/") and not path.endswith("__init__.py"):
            assert path.split("/")[-1] in tree, path
