"""Sizes that keep the code readable."""

import ast
import subprocess
from collections import Counter

from tests.conftest import ROOT


def test_no_function_is_longer_than_a_screen():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True,
                            check=True)
    long = [f"{path}: {node.name}" for path in listed.stdout.split()
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 50]
    assert not long


PACKAGES = ("experiment", "relation", "imagenet", "language", "speech", "digits")
# What outside scripts import takes each option of the method by its name.
PUBLIC = {"relation_scores", "detect_label_noise", "detect_ood", "relation_topk"}


def test_no_function_of_the_packages_has_more_than_seven_parameters():
    assert not [f"{path}: {node.name}" for path in modules()
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef) and node.name not in PUBLIC
                and parameters(node) > 7]


def parameters(function):
    names = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in names)


def test_no_file_of_the_packages_is_long_and_no_folder_of_experiment_full():
    assert not [path for path in modules()
                if len(path.read_text(encoding="utf-8").splitlines()) > 300]
    folders = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert not [folder for folder, files in folders.items()
                if folder.is_relative_to(ROOT / "experiment") and files > 12]


def modules():
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
