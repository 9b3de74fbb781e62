import ast
import subprocess
import sys
from pathlib import Path

import relation

ALLOWED = {"torch", "numpy", "sklearn", "tqdm", "relation", *sys.stdlib_module_names}


def test_the_method_depends_on_nothing_of_the_project():
    for path in Path(relation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in ALLOWED, f"{path.name} imports {name}"


def test_every_public_name_is_there():
    for name in relation.__all__:
        assert getattr(relation, name) is not None


def test_importing_it_brings_in_no_model_library():
    """In a process of its own, as others of these tests import them."""
    code = "import relation, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(relation.__file__).parents[1]).stdout.split()
    assert {"torch", "sklearn"} <= set(shown)
    assert not {"timm", "transformers", "torchvision", "datasets", "experiment"} & set(shown)
