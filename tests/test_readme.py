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


def test_the_output_ends_with_the_files_that_a_run_writes(script, tmp_path, feature_file):
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "report",
                   "--auto", "False").stdout.splitlines()[-1]
    [files] = re.findall(r"^written to \S+/report: (.*)$", README, re.MULTILINE)
    assert shown == f"written to {tmp_path}/report: {files}"
    assert {path.name for path in (tmp_path / "report").iterdir()} == set(files.split(", "))


def test_python_snippets_run_as_they_stand(script, tmp_path, monkeypatch, capsys, feature_file,
                                           clusters):
    features, probs, labels, is_noisy = clusters
    script("detect.py", "--features", feature_file, "--output", tmp_path)
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 3
    known = {"features": features, "probs": probs, "labels": labels, "logits": probs.log(),
             "names": [f"{row}.jpg" for row in range(120)]}
    capsys.readouterr()
    for snippet in snippets:
        exec(snippet, known)
    assert known["issues"]["index"].tolist() == list(range(120))
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(shown) == 20 and {int(row) for row, *_ in shown[:8]} == \
        set(is_noisy.nonzero()[:, 0].tolist())
    assert len(snippets[2].strip().splitlines()) <= 10
    saved = script("detect.py", "--features", tmp_path / "train.npz", "--output", tmp_path)
    assert "0.jpg" in saved.stdout
