"""The tower of `experiment`: who may import whom. No import runs up, and none in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A floor may import its own files and those of the floors that it names.
FLOORS = {
    "relation": set(),
    "experiment.command": {"relation"},
    "experiment.files": {"experiment.command"},
    "experiment.inputs": {"experiment.command", "experiment.files", "relation"},
    "experiment.run": {"experiment.command", "experiment.files", "experiment.inputs", "relation"},
    "experiment.report": {"experiment.command", "experiment.files", "experiment.inputs",
                          "experiment.run", "relation"},
    "experiment.cleaning": {"experiment.command", "experiment.files", "experiment.inputs"},
    "experiment.published": {"experiment.command", "experiment.files"},
    "experiment.sources": {"experiment.command", "experiment.files", "experiment.inputs",
                           "experiment.published", "experiment.run"},
    "experiment.detection": {"experiment.command", "experiment.files", "experiment.inputs",
                             "experiment.run", "experiment.report", "experiment.sources"},
    **{domain: {"experiment.command", "experiment.files", "experiment.inputs", "relation"}
       for domain in ("imagenet", "language", "speech", "digits")},
}
SCRIPTS = {"language": ("detect", "download", "extract", "make_noise", "train"),
           "speech": ("detect", "download", "train")}
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
           for folder in ("relation", "experiment", "imagenet", "language", "speech", "digits")
           for path in (ROOT / folder).rglob("*.py")}


def floor_of(module):
    return next((floor for floor in sorted(FLOORS, key=len, reverse=True)
                 if module == floor or module.startswith(f"{floor}.")), None)


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys() | {name for name in found if f"{name}.__init__" in MODULES}


LIBRARY = {name: path for name, path in MODULES.items()
           if name.split(".")[-1] not in SCRIPTS.get(name.split(".")[0], ())
           and not name.endswith("__init__")}


@pytest.mark.parametrize("module", sorted(LIBRARY))
def test_no_import_runs_up(module):
    floor = floor_of(module)
    for name in imported(LIBRARY[module]):
        target = floor_of(name)
        # `experiment.run` and the like are only part of "from experiment.run import memory".
        assert target in FLOORS[floor] | {floor, None}, f"{module} imports {name}"


def test_no_circle():
    graph = {name: imported(path) & LIBRARY.keys() - {name} for name, path in LIBRARY.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_folder_is_crowded():
    for folder in (ROOT / "experiment").rglob("*"):
        if folder.is_dir():
            files = [path for path in folder.iterdir()
                     if path.is_file() and path.name != "__init__.py"]
            assert len(files) <= 12, folder
