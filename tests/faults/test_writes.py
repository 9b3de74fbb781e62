"""Disks that fill up in the middle, several writers at once, and what they leave behind."""

import builtins
import errno
import fcntl
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import threading
import time

import pytest
import torch

from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.files.results_folder import results_folder
from tests.conftest import ROOT
from tests.faults.commands import (
    Command,
    contents,
    is_bar,
    leftovers,
    loader_without_workers,
)
from tests.faults.test_kills import whole

writes, sharing = pytest.mark.promise("writes"), pytest.mark.promise("sharing")
FORK = multiprocessing.get_context("fork")


@writes
@pytest.mark.fault
def test_a_disk_that_fills_up_in_the_middle(command, undisturbed, tmp_path, fault_seed,
                                            record_property):
    """One line, nothing half-written, nothing temporary; with room again the same result."""
    expected, _ = undisturbed
    chance, cases = random.Random(f"{fault_seed} {command.name}"), 0
    while cases < 4:
        # Workers hand over images in files in memory, which the limit would forbid, too.
        running = command(tmp_path, file_limit=int(10 ** chance.uniform(1, 5.3)),
                          patches={"imagenet.features.DataLoader": loader_without_workers})
        status = running.wait(60)
        if status == 0:  # all files are smaller than that: no case
            assert contents(tmp_path / "results") == expected
        else:
            cases += 1
            time.sleep(0.1)  # the pipes' other ends
            shown = [line for line in running.err.splitlines()
                     if line.strip() and not is_bar(line)]
            assert status == 2 and len(shown) == 1 and "error: " in shown[0], running.err
            assert "File too large" in shown[0] or "os error 27" in shown[0], shown
            whole(tmp_path / "results")
            assert not leftovers(tmp_path / "results") or command.name == "download"
    command(tmp_path).done()
    assert contents(tmp_path / "results") == expected and not leftovers(tmp_path / "results")
    record_property("cases", cases)


SAVED = {"a.pt": lambda path: writing.save({"a": torch.ones(10**5), "b": torch.ones(3)}, path),
         "a.json": lambda path: writing.save_json({"a": ["x" * 100] * 5000}, path)}


@writes
@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("limit", [0, 1, 700, 5000, 300_000])
def test_the_old_file_stays_and_the_temporary_one_goes(tmp_path, name, limit):
    path = tmp_path / name
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=f"{name}: cannot be written .File too large.$"):
            SAVED[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [name]


@writes
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_fails_at_the_very_end(tmp_path, monkeypatch, call, number):
    path = tmp_path / "metrics.json"
    writing.save_json({"a": 1}, path)
    before = path.read_bytes()

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(InputError, match=f"metrics.json: cannot be written .{os.strerror(number)}"):
        writing.save_json({"a": 2}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@writes
def test_a_full_disk_behind_the_output_is_one_line(tmp_path):
    """python detect.py … > file"""
    code = ("import sys; sys.path.insert(0, sys.argv.pop())\n"
            "from experiment.command import arguments\n"
            "from experiment.command.launch import launch\n"
            "launch(lambda args: print('x' * 10**6), arguments.Parser(''))")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code, ROOT], stdout=full, text=True,
                              stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == "-c: error: No space left on device\n"


@writes
def test_what_a_kill_left_goes_with_the_next_write_but_not_what_is_being_written(tmp_path):
    path = tmp_path / "scores.csv"
    left = tmp_path / ".scores.csv.0123abcd.part"
    left.write_bytes(b"half")
    other = tmp_path / ".other.csv.0123abcd.part"
    other.write_bytes(b"not ours")
    with writing.replacing(path) as first:
        first.write_text("first")
        with writing.replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second" and first.exists() and not left.exists()
    assert path.read_text() == "first" and other.exists()


def write_often(path, value):
    for _ in range(60):
        writing.save_json([value] * 2000, path)


@sharing
def test_four_writers_and_a_reader(tmp_path):
    path = tmp_path / "a.json"
    writers = [FORK.Process(target=write_often, args=(path, value)) for value in range(4)]
    for process in writers:
        process.start()
    read = 0
    while any(process.is_alive() for process in writers) or not read:
        if path.exists():
            assert len(set(reading.load_json(path))) == 1
            read += 1
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 4
    assert os.listdir(tmp_path) == ["a.json"]


def hold(folder, ready):
    with writing.locked(folder):
        ready.set()
        time.sleep(60)


@sharing
def test_the_second_waits_and_says_so_and_a_killed_one_is_not_waited_for(tmp_path, capsys):
    ready, folder = FORK.Event(), tmp_path / "\x1b[31mred"
    process = FORK.Process(target=hold, args=(folder, ready))
    process.start()
    assert ready.wait(10)
    killed = threading.Event()
    threading.Timer(0.5, lambda: (killed.set(), process.kill())).start()
    with writing.locked(folder):
        assert killed.is_set()
    process.join()
    assert capsys.readouterr().out == \
        f"{tmp_path}/\\x1b[31mred: waiting for another process that writes here\n"


@sharing
@pytest.mark.fault
def test_two_of_each_command_at_once(command, undisturbed, tmp_path):
    """Both end well with the same result; a second download is sent away with one line."""
    expected, _ = undisturbed
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "results").symlink_to(tmp_path / "results")
    (tmp_path / "results").mkdir()
    both = [command(tmp_path / folder) for folder in ("one", "two")]
    ends = [running.wait(120) for running in both]
    if command.name == "download":
        assert 0 in ends and set(ends) <= {0, 2}
        assert all("another download is at work here" in running.err
                   for running, end in zip(both, ends) if end == 2)
    else:
        assert ends == [0, 0], [running.err for running in both]
    assert contents(tmp_path / "results") == expected and not leftovers(tmp_path / "results")


@sharing
@pytest.mark.fault
def test_two_settings_in_turn_on_one_experiment(world, tmp_path, fault_seed):
    """The kept scores of one are never taken for the other's."""
    chance = random.Random(fault_seed)
    settings = {"4": ["--pow", "4", "--thres", "0.03"], "5": ["--pow", "4", "--thres", "0.05"]}
    words = ("detect.py", "--features", world / "train.npz", "--cache_dir", "results",
             "--device", "cpu", "--auto", "False")
    expected = {}
    for name, options in settings.items():
        (tmp_path / name).mkdir()
        Command(tmp_path / name, *words, *options, "--graph", "off").done()
        expected[name] = (tmp_path / name / "results/train/report/scores.csv").read_bytes()
    for round_ in range(4):
        running = {}
        for name, options in settings.items():
            cwd = tmp_path / f"{round_}{name}"
            cwd.mkdir()
            (cwd / "results").symlink_to(tmp_path / "shared", target_is_directory=True)
            (tmp_path / "shared").mkdir(exist_ok=True)
            running[name] = Command(cwd, *words, *options, "--output", cwd / "report")
            time.sleep(chance.uniform(0, 0.3))
        for name, command in running.items():
            command.done()
            written = tmp_path / f"{round_}{name}/report/scores.csv"
            assert written.read_bytes() == expected[name]


@writes
def test_whatever_is_left_in_a_folder_goes_with_the_next_run(tmp_path):
    """Of any file, and of the check that a folder can be written to; never the part of a download,
    nor what a living process writes."""
    left = [".scores.csv.01234567.part", ".89abcdef.part", ".a.pt.deadbeef.part",
            ".a\nb.00000000.part"]
    stay = [".1hkroHQ4DZ.ptabcdefgh.part", "my.01234567.part", ".notes.part"]
    for name in left + stay:
        (tmp_path / name).write_bytes(b"half")
    with open(tmp_path / left[0], "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writing.check_writable(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([left[0], *stay])
    results_folder(tmp_path.parent, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(stay)


@writes
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "flock"])
def test_an_interrupt_at_any_call_leaves_nothing(tmp_path, monkeypatch, call):
    def interrupted(*args, **kwargs):
        if call == "open":
            real(*args, **kwargs).close()  # it is there already
        raise KeyboardInterrupt
    where = {"open": builtins, "flock": fcntl}.get(call, os)
    real = getattr(where, call)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, call, interrupted)
        writing.save_json({"a": 1}, tmp_path / "a.json")
    assert os.listdir(tmp_path) == []
