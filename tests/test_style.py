"""Sizes that keep the code readable."""

import ast
import subprocess

from tests.conftest import ROOT


def test_no_function_is_longer_than_a_screen():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True,
                            check=True)
    long = [f"{path}: {node.name}" for path in listed.stdout.split()
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 50]
    assert not long
