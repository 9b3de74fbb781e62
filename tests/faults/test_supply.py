"""What the project is made of: every import is declared, bounded on both sides, and as declared."""

import ast
import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

pytestmark = pytest.mark.promise("supply")
MODULES = {"sklearn": "scikit-learn", "PIL": "pillow", "markdown_it": "markdown-it-py"}
OPTIONAL = {"cleanlab", "faiss", "pillow_heif"}  # used where it is installed, and only then


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {canonicalize_name(found.name): found for found in
            (Requirement(line) for line in lines if line and not line.startswith("-r"))}


def declared():
    return requirements("requirements.txt") | requirements("requirements-dev.txt")


def imported(folder_or_file):
    """Top names of all imports, those within functions too."""
    for node in ast.walk(ast.parse(folder_or_file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def tracked():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                             "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


def test_every_version_is_bounded_on_both_sides(record_property):
    for name, found in declared().items():
        operators = {specifier.operator for specifier in found.specifier}
        assert ">=" in operators and operators & {"<", "<="} or operators == {"=="}, name
        assert found.url is None, f"{name}: from an address instead of the registry"
    record_property("cases", len(declared()))


def test_what_is_installed_is_within_the_bounds(record_property):
    """So that what the tests say holds for the bounds that are declared."""
    cases = 0
    for name, found in declared().items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an optional one of the tests
            assert name in requirements("requirements-dev.txt"), name
            continue
        assert found.specifier.contains(version.split("+")[0], prereleases=True), (name, version)
        cases += 1
    record_property("cases", cases)


def test_every_import_is_declared():
    ours = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in tracked()}
    run_time, all_of_them = set(requirements("requirements.txt")), set(declared())
    for path in tracked():
        tests = path.is_relative_to(ROOT / "tests")
        for name in set(imported(path)) - ours - set(sys.stdlib_module_names) - OPTIONAL:
            package = canonicalize_name(MODULES.get(name, name))
            known = all_of_them if tests or package == "pytorch-ood" else run_time
            # Parts of transformers, scikit-learn and pytest.
            brought = {"tokenizers", "huggingface-hub", "scipy", "packaging"}
            assert package in known | brought, f"{path.relative_to(ROOT)} imports {name}"


def test_no_address_of_a_registry_in_what_is_installed():
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links|git\+",
                             (ROOT / name).read_text())


@pytest.mark.parametrize("name, words", [
    ("LICENSE", ["MIT License", "WITHOUT WARRANTY OF ANY KIND"]),
    ("SECURITY.md", ["weights-only", "trusted", "Report"])])
def test_licence_and_security_note(name, words):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all(word in text for word in words)


def test_ci_checks_what_it_installs_and_what_it_loads():
    run = (ROOT / ".ci/run").read_text()
    assert "pip check" in run and "ruff\" check" in run and "test_hostile.py" in run
