"""Small data sets with planted truth, and a way to run the scripts as a user does."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from digits.build import build
from experiment.command import arguments

ROOT = Path(__file__).parent.parent
pytest_plugins = ["tests.promises"]


@pytest.fixture(scope="session")
def golden():
    """Arrays that the published implementation computed for label errors."""
    with np.load(ROOT / "tests/data/label_noise.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="session")
def golden_ood():
    """Arrays that the published implementation computed for outliers."""
    with np.load(ROOT / "tests/data/ood.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def clusters():
    """features, probs, labels, is_noisy of 120 rows in 4 well separated classes, 8 labels wrong.

    The network is sure of the true class everywhere, so wrong labels contradict all neighbours.
    """
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(120) % 4
    features = 3 * torch.eye(16)[true] + 0.3 * torch.randn(120, 16, generator=generator)
    probs = torch.softmax(4 * torch.eye(4)[true], 1)
    labels = true.clone()
    labels[:8] = (labels[:8] + 1) % 4
    return features, probs, labels, labels != true


@pytest.fixture
def feature_file(tmp_path, clusters):
    """The clusters as a feature file."""
    features, probs, labels, is_noisy = clusters
    path = tmp_path / "train.npz"
    np.savez(path, features=features, probs=probs, labels=labels, is_noisy=is_noisy)
    return path


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory):
    """A cache folder with epochs 10, 20 and 21 of digits_noise0.2; nobody writes into it."""
    folder = tmp_path_factory.mktemp("trained digits")
    build(folder / "digits_noise0.2", 21, progress=False)
    return folder


class Done(NamedTuple):
    """How a script ended, as subprocess.run tells it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def script(monkeypatch, capsys, tmp_path):
    """Run a script's command line: script("detect.py", "--pow", 4).

    In this process, since importing torch anew takes longer than most runs, and with tmp_path for
    the default of --cache_dir; `process` asks for one of its own.
    """
    def run(*words, cwd=ROOT, check=True, process=False):
        path, words = ROOT / words[0], [str(word) for word in words[1:]]
        if process:
            done = subprocess.run([sys.executable, str(path), *words], cwd=cwd, capture_output=True,
                                  text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        else:
            done = run_here(path, words, cwd)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def run_here(path, words, cwd):
        capsys.readouterr()
        status = 0
        with monkeypatch.context() as patched:
            patched.chdir(cwd)
            patched.setattr(sys, "argv", [str(path), *words])
            patched.setattr(sys, "path", [str(path.parent), *sys.path])
            patched.setattr(arguments, "results_beside", lambda _: tmp_path / "results")
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as end:
                status = end.code or 0
        return Done(status, *capsys.readouterr())
    return run


@pytest.fixture
def refused(script):
    """Assert that a script ends with status 2 and one line; return the line."""
    def run(*words, **kwargs):
        done = script(*words, check=False, **kwargs)
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr
    return run


@pytest.fixture(scope="session")
def chromium():
    """A browser; tests that need one are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api",
                                   reason="pip install -r requirements-dev.txt")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        flags = ["--disable-dev-shm-usage"]  # containers have little of it
        if os.name == "posix" and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to sandbox itself as root
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()
