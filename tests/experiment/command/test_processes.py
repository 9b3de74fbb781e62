"""Two processes of one run, as torchrun starts them."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.experiment.report.page.conftest import embedded

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
LONG = 60  # seconds: what still runs then hangs


def start(rank, port, *command):
    environment = os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def train_file(tmp_path):
    generator = np.random.default_rng(0)
    true = generator.integers(0, 12, 400)
    labels = np.where(generator.random(400) < 0.1, (true + 5) % 12, true)
    path = tmp_path / "train.npz"
    np.savez(path, features=np.eye(12)[true] + 0.3 * generator.normal(size=(400, 12)),
             logits=6 * np.eye(12)[true] + generator.normal(size=(400, 12)), labels=labels,
             is_noisy=labels != true)
    return path


def column(report, name):
    with open(report / "scores.csv", newline="") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


@pytest.mark.parametrize("kernel, auto", [
    ("cos_p", "True"), pytest.param("cos", "False", marks=pytest.mark.slow)])
def test_torchrun_writes_once_what_one_process_finds(script, train_file, tmp_path, kernel, auto):
    one, two = tmp_path / "one", tmp_path / "two"
    how = ["--features", str(train_file), "--kernel", kernel, "--chunk", "16", "--auto", auto,
           "--cache_dir", str(tmp_path)]
    script("detect.py", *how, "--output", str(one))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         "2", "detect.py", *how, "--output", str(two)],
        cwd=ROOT, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert sorted(path.name for path in two.iterdir()) == \
        sorted(path.name for path in one.iterdir())
    for name in ["relation_score", "auto_score"] if auto == "True" else ["relation_score"]:
        np.testing.assert_allclose(column(two, name), column(one, name), rtol=1e-6)
    # Its evidence is found by the first process, when the other has ended.
    suspects = [embedded(report / "report.html")["suspects"] for report in (one, two)]
    for alone, together in zip(*suspects):
        for side in ("support", "against"):
            assert [entry["r"] for entry in together[side]] == pytest.approx(
                [entry["r"] for entry in alone[side]], abs=1e-3)


@pytest.mark.slow  # two processes or more, each of which imports torch
def test_two_processes_find_the_same_outliers(script, train_file, tmp_path, port):
    one, two = tmp_path / "one", tmp_path / "two"
    how = ["--features", str(train_file), "--test_features", str(train_file), "--chunk", "16",
           "--cache_dir", str(tmp_path)]
    script("detect_ood.py", *how, "--output", str(one))
    both = [start(rank, port, "detect_ood.py", *how, "--output", str(two)) for rank in (0, 1)]
    said = [process.communicate(timeout=LONG) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "written to" in said[0][0] and said[1] == ("", "")
    for name in ("relation_score", "KNN", "Mahalanobis"):
        np.testing.assert_allclose(column(two, name), column(one, name), rtol=1e-5)


@pytest.mark.parametrize("name, value", [("WORLD_SIZE", "x"), ("WORLD_SIZE", "0"), ("RANK", "-1"),
                                         ("LOCAL_WORLD_SIZE", "")])
def test_an_environment_that_torchrun_did_not_set(refused, monkeypatch, train_file, tmp_path, name,
                                                  value):
    if name == "RANK":
        monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    line = refused("detect.py", "--features", train_file, "--output", tmp_path / "out")
    assert f"{name} in the environment: expected a whole number" in line


def test_several_processes_without_torchrun(refused, monkeypatch, train_file, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refused("detect.py", "--features", train_file, "--output", tmp_path / "out")
    assert "RANK expected, but not set; use torchrun, or unset WORLD_SIZE" in line


# A process whose bars are drawn from the first second on, and which, where it is told to, keeps
# its sums after every block and kills itself after the fifth.
WATCHED = """
import functools, os, signal, sys
import tqdm
init = tqdm.tqdm.__init__
tqdm.tqdm.__init__ = lambda self, *words, **how: init(self, *words, **how | {"delay": 0})
from experiment.command.launch import launch
from experiment.run import cache
offer = cache.PartialSums.offer
def offer_and_die(self, done, sums):
    offer(self, done, sums)
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv.pop(1) == "dies":
    cache.EVERY, cache.PartialSums.offer = 0.0, offer_and_die
import detect
sys.argv[0] = "detect.py"
launch(detect.main, detect.get_args_parser())
"""


@pytest.mark.slow  # two processes or more, each of which imports torch
def test_both_killed_go_on_and_only_the_first_draws_bars(script, train_file, tmp_path):
    how = ["--features", str(train_file), "--kernel", "cos", "--chunk", "16", "--auto", "False"]
    script("detect.py", *how, "--cache_dir", str(tmp_path / "one"))
    again = [*how, "--cache_dir", str(tmp_path / "two")]
    folder = tmp_path / "two" / "train"
    for ending in ("dies", "lives"):
        port = free_port()
        both = [start(rank, port, "-c", WATCHED, ending, *again) for rank in (0, 1)]
        said = [process.communicate(timeout=LONG) for process in both]
        if ending == "dies":
            assert [process.returncode for process in both] == [-signal.SIGKILL] * 2, said
            assert len(list(folder.glob("partial_*"))) == 2
    assert [process.returncode for process in both] == [0, 0], said
    assert "relation" in said[0][1] and said[1] == ("", "")
    assert not list(folder.glob("partial_*"))
    np.testing.assert_allclose(column(folder / "report", "relation_score"), column(
        tmp_path / "one" / "train" / "report", "relation_score"), rtol=1e-6)


def test_a_dead_process_ends_the_run_with_a_line(train_file, tmp_path, port):
    """The other joins, and is gone before its share is done."""
    gone = ("import os; from experiment.command import processes; "
            "processes.joined().__enter__(); os._exit(9)")
    first = start(0, port, "detect.py", "--features", str(train_file), "--output",
                  str(tmp_path / "out"), "--cache_dir", str(tmp_path))
    start(1, port, "-c", gone).communicate(timeout=LONG)
    out, err = first.communicate(timeout=LONG)
    assert first.returncode == 1
    assert re.fullmatch(r"detect\.py: another process of this run ended or did not answer \(.+\); "
                        r"nothing is written, run the command again\n", err)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow  # two processes or more, each of which imports torch
def test_a_mistake_that_one_process_meets_ends_the_other_with_a_line(train_file, tmp_path, port):
    """Found after the first exchange: before it each says the same."""
    wrong = ("import sys; from experiment.command import errors; import detect\n"
             "from experiment.command.launch import launch\n"
             "from experiment.run import label_errors as run\n"
             "def refuse(*words, **how): raise errors.InputError('made up')\n"
             "run.evaluate_all = run.Settings.wants_auto = run._initial = refuse\n"
             "sys.argv[0] = 'detect.py'\n"
             "launch(detect.main, detect.get_args_parser())")
    how = ["--features", str(train_file), "--output", str(tmp_path / "out"), "--cache_dir",
           str(tmp_path)]
    both = [start(0, port, "detect.py", *how), start(1, port, "-c", wrong, *how)]
    said = [process.communicate(timeout=LONG) for process in both]
    assert [process.returncode for process in both] == [1, 2], said
    assert "another process of this run ended" in said[0][1] and "made up" in said[1][1]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow  # two processes or more, each of which imports torch
def test_processes_that_read_different_data_are_refused(train_file, tmp_path, port):
    content = dict(np.load(train_file))
    other = tmp_path / "other.npz"
    np.savez(other, **content | {"features": content["features"] + 1})
    where = ["--output", str(tmp_path / "out"), "--cache_dir", str(tmp_path)]
    both = [start(rank, port, "detect.py", "--features", str(path), *where)
            for rank, path in enumerate((train_file, other))]
    said = [process.communicate(timeout=LONG) for process in both]
    assert [process.returncode for process in both] == [2, 2]
    assert "the 2 processes of this run read different data" in said[0][1]
