"""`pip install .`: the library alone, usable from anywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_its_requirements_are_those_of_the_project():
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert PROJECT["dependencies"] and set(PROJECT["dependencies"]) <= set(listed)


@pytest.mark.slow
def test_a_wheel_is_built_installed_and_imported_from_an_empty_folder(tmp_path):
    source, empty, target = (tmp_path / name for name in ("source", "empty", "installed"))
    source.mkdir()
    empty.mkdir()
    for name in ("pyproject.toml", "LICENSE"):  # a copy: a build leaves folders beside them
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "relation", source / "relation",
                    ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip"]
    alone = ["--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "wheel", *alone, "--no-build-isolation", "-w", str(tmp_path),
                    str(source)], cwd=empty, check=True)
    wheel = next(tmp_path.glob("neural_relation_graph-*.whl"))
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    modules = {f"relation/{path.name}" for path in (ROOT / "relation").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == modules
    assert any(name.endswith("licenses/LICENSE") for name in names)
    subprocess.run([*pip, "install", *alone, "--target", str(target), str(wheel)], cwd=empty,
                   check=True)
    code = ("import relation, torch; print(relation.__file__); "
            "print(relation.find_duplicates(torch.eye(3)[[0, 1, 0]]).groups.tolist())")
    shown = subprocess.run([sys.executable, "-c", code], cwd=empty, capture_output=True, text=True,
                           check=True, env={**os.environ, "PYTHONPATH": str(target)}).stdout
    assert shown.splitlines() == [str(target / "relation" / "__init__.py"), "[0, -1, 0]"]
