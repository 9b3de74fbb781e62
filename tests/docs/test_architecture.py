"""docs/architecture.md lists every file: what it says must be there, and nothing may be missing."""

import ast
import re

from tests.conftest import ROOT
from tests.docs import pages


def file_tree(text):
    """Paths that the tree lists, and those named where a folder is described as a whole."""
    listed, described, folders, of_folder = [], [], [], False
    for line in text.strip("\n").split("\n"):
        indent, (names, _, text) = len(line) - len(line.lstrip()), line.strip().partition("  ")
        if indent > 8:  # goes on with the text of the line above
            names, text = "", line
        else:
            folders = [folder for folder in folders if folder[0] < indent]
            of_folder = names.endswith("/")
        if of_folder and " " not in names:
            folders.append((indent, (folders[-1][1] if folders else "") + names))
        folder = folders[-1][1] if folders else ""
        if of_folder:
            described += [folder + name for name in re.findall(r"\w+\.py", text)]
        else:
            listed += [folder + name for name in names.split()]
    return listed, described


def the_tree_of(page):
    return file_tree(pages.read(page).split("## Files\n")[1].split("```text\n")[1].split("```")[0])


def test_the_file_tree_names_every_file_and_no_other():
    listed, described = the_tree_of("docs/architecture.md")
    assert all(list(ROOT.glob(path)) for path in listed + described), listed + described
    assert {path for path in listed + described if path.endswith(".py")} == {
        path for path in pages.TRACKED if path.endswith(".py") and (ROOT / path).is_file()
        and not path.startswith("tests/") and not path.endswith("__init__.py")}


def test_the_short_tree_of_the_readme_names_every_folder():
    tree = pages.read("README.md").split("## Files\n")[1].split("```")[1].removeprefix("text\n")
    names = [name for line in tree.strip().splitlines() for name in line.split("  ")[0].split()]
    assert all((ROOT / name).exists() for name in names), names
    assert {name.rstrip("/") for name in names if name.endswith("/")} == {
        path.split("/")[0] for path in pages.TRACKED if "/" in path and path[0] != "."}
    assert {name for name in names if name.endswith(".py")} == {
        path for path in pages.TRACKED if path.endswith(".py") and "/" not in path}


def test_the_files_of_a_domain_are_alike():
    """Each domain has every file of the page's table; what is in it beside them is its own."""
    [table] = re.findall(r"^\| file \| content \|\n.*?\n\n", pages.read("docs/architecture.md"),
                         re.MULTILINE | re.DOTALL)
    names = re.findall(r"^\| `(\w+\.py)`", table, re.MULTILINE)
    assert len(names) >= 5
    for domain in ("imagenet", "language", "speech"):
        assert all((ROOT / domain / name).is_file() for name in names), domain


# The page's tower: a package imports its own floor and those below. Scripts stand on top of it.
DOMAINS = ("digits", "imagenet", "language", "speech")
FLOORS = [("relation",), ("experiment.command", "experiment.files"), ("experiment.inputs",),
          ("experiment.cleaning", "experiment.run", *DOMAINS),
          ("experiment.published", "experiment.report"),
          ("experiment.detection", "experiment.sources")]


def room(module):
    """(floor, package) of a module, None for what is not in the tower."""
    for floor, packages in enumerate(FLOORS):
        for package in packages:
            if f"{module}.".startswith(f"{package}."):
                return floor, package
    return None


def imports():
    """(room, room, "who imports what") of every import within the tower, of functions too."""
    for path in pages.TRACKED:
        here = room(path.removesuffix(".py").replace("/", "."))
        if here is None or not path.endswith(".py") or "launch(main" in pages.read(path):
            continue
        for node in ast.walk(ast.parse(pages.read(path))):
            named = [f"{node.module}.{name.name}" for name in node.names] \
                if isinstance(node, ast.ImportFrom) else \
                [name.name for name in node.names] if isinstance(node, ast.Import) else []
            yield from ((here, room(name), f"{path} imports {name}") for name in named
                        if room(name) is not None)


def test_imports_go_down_the_tower():
    found = list(imports())
    assert len(found) > 100
    assert not [told for (floor, _), (other, _), told in found if other > floor]


def test_no_domain_is_imported_by_another_or_by_experiment():
    assert not [told for (_, here), (_, there), told in imports()
                if there in DOMAINS and here != there]
