"""The project's commands as processes that start at once, to be killed, starved and crowded.

They are forked from a server that has imported everything heavy; what they do is what a shell would
make them do, in a process group of their own, with their output in files.
"""

import hashlib
import importlib
import json
import multiprocessing
import os
import re
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([
    "torch", "matplotlib.pyplot", "sklearn.datasets", "sklearn.metrics", "timm", "transformers",
    "soundfile", "scipy.stats", "torchvision.datasets", "experiment.run.label_errors",
    "experiment.report.scores", "experiment.run.ood", "experiment.inputs.feature_file",
    "imagenet.samples", "language.training", "language.samples", "speech.training",
    "speech.samples", "digits.build", "experiment.files.drive",
    "tests.drive_server"])
RUNNING = []


class Command:
    """A running script: Command(folder, "detect.py", "--features", file)."""

    def __init__(self, cwd, *words, patches=(), file_limit=None, port=None):
        self.log = Path(cwd) / ".log"
        self.log.mkdir(exist_ok=True)
        for stream in ("out", "err"):
            (self.log / stream).write_bytes(b"")
        self.process = SERVER.Process(target=_run, args=(
            str(cwd), [str(word) for word in words], dict(patches), file_limit, port))
        self.process.start()
        RUNNING.append(self)

    def wait(self, seconds=None):
        """Exit status, None if it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def send(self, number, *, group=False):
        try:
            (os.killpg if group else os.kill)(self.process.pid, number)
        except ProcessLookupError:  # ended before
            pass

    def kill(self, *, group=False):
        self.send(signal.SIGKILL, group=group)
        self.process.join()

    @property
    def out(self):
        return (self.log / "out").read_text(errors="replace")

    @property
    def err(self):
        """What stands on the screen in the end: a progress bar writes its line again and again."""
        text = (self.log / "err").read_text(errors="replace")
        return "\n".join(line.split("\r")[-1] for line in text.split("\n"))

    def done(self, limit=120):
        """Wait for the end, which must be a good one; returns the seconds it took."""
        started = time.monotonic()
        status = self.wait(limit)
        assert status == 0, f"status {status}\n{self.out}\n{self.err}"
        return time.monotonic() - started


def _run(cwd, words, patches, file_limit, port):
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the system's own, as a shell's process has
    os.chdir(cwd)
    for number, name in ((1, "out"), (2, "err")):
        target = os.open(f".log/{name}", os.O_WRONLY | os.O_APPEND)
        if file_limit is not None:  # which is for files, not for what is behind a pipe
            target = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target).stdin.fileno()
        os.dup2(target, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", 1, closefd=False)
    if file_limit is not None:  # writing beyond it fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch

    torch.set_num_threads(1)
    if port is not None:
        from tests import drive_server

        drive_server.divert(port)
    for place, value in patches.items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    script = ROOT / words[0]
    sys.argv = [str(script), *words[1:]]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def is_bar(line):
    """A line of tqdm's: what it drew last, or its totals."""
    return "%|" in line or line.rstrip().endswith("/s]")


def loader_without_workers(*arguments, **options):
    from torch.utils.data import DataLoader

    return DataLoader(*arguments, **options | {"num_workers": 0})


# A run that goes on says so; the numbers are the same.
TAKEN = re.compile(rb',?"relation scores before refinement are taken from [^"]*"')
VOLATILE = ("seconds", "peak_memory_mib")  # of metrics.json


def contents(folder):
    """Relative path -> digest of every visible file, without what differs from run to run."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            content = path.read_bytes()
            if path.name == "metrics.json":
                content = json.dumps({key: value for key, value in json.loads(content).items()
                                      if key not in VOLATILE}).encode()
            if path.name == "report.html":
                content = TAKEN.sub(b"", content).replace(b"[,", b"[")
            found["/".join(parts)] = hashlib.sha256(content).hexdigest()
    return found


def leftovers(folder):
    """Temporary files and folders."""
    return [str(path) for path in Path(folder).rglob("*.part")]
