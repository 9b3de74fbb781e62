"""--help of the scripts in figure/ answers without the heavy libraries."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("name, option", [
    ("relation_map", "--index"), ("sweep", "--dtype"), ("tables", "--scores"), ("method", "--out")])
def test_help_answers_without_the_heavy_libraries(name, option):
    code = (f"import sys, runpy; sys.argv = ['{name}.py', '--help']\n"
            f"try: runpy.run_path('figure/{name}.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'timm', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert option in done.stdout
