"""SIGKILL before every single thing that clean.py does to files: nothing is there, or all."""

import os
import signal
import sys

import pytest

from experiment.cleaning import cleaned, decisions, images
from experiment.cleaning.decisions import Decision
from experiment.files import new_folder
from experiment.inputs.own_data import Rows
from tests.faults.commands import contents, leftovers

pytestmark = [pytest.mark.promise("kills"), pytest.mark.fault]
# What Python says before it touches files.
EVENTS = ("open", "os.", "shutil.")


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """Writes cleaned/: four files in two classes, one relabelled, one dropped, three copied."""
    monkeypatch.setattr(os, "fsync", lambda number: None)  # of use where the power fails, and slow
    names = [f"{'ab'[row % 2]}/{row}.jpg" for row in range(4)]
    files = [tmp_path / "photos" / name for name in sorted(names)]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    names = [path.relative_to(tmp_path / "photos").as_posix() for path in files]
    data = images.of_folder(tmp_path / "photos", files,
                            Rows.of("photos", names, [name[0] for name in names]), images.COPY)
    found = [Decision(1, decisions.RELABEL, "b", names[1], "a", "line 2", "because"),
             Decision(2, decisions.DROP, "", names[2], "b", "line 3", "because")]
    return lambda: cleaned.write(data, found, tmp_path / "cleaned")


def killed_before(action, number):
    """Whether a process that does `action` was killed before its so-manieth touch of a file."""
    child = os.fork()
    if child == 0:
        left = iter(range(number))

        def count(event, arguments):
            if event != "os.kill" and event.startswith(EVENTS) and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            sys.addaudithook(count)
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_before_every_touch_of_a_file(clean, tmp_path, record_property, capfd):
    clean()
    expected, original = contents(tmp_path / "cleaned"), contents(tmp_path / "photos")
    assert len(expected) == 5
    os.rename(tmp_path / "cleaned", tmp_path / "once")
    kills = whole = 0
    while killed_before(clean, kills):
        kills += 1
        assert contents(tmp_path / "photos") == original
        assert len(leftovers(tmp_path)) <= 1  # a run clears what the one before left
        if (tmp_path / "cleaned").exists():
            assert contents(tmp_path / "cleaned") == expected
            whole += 1
            os.rename(tmp_path / "cleaned", tmp_path / f"once_{kills}")
    assert contents(tmp_path / "cleaned") == expected and not leftovers(tmp_path)
    assert kills > 50 and 0 < whole < kills / 2
    record_property("cases", kills)


def test_a_folder_in_the_making_is_left_alone(clean, tmp_path, refused):
    """Two at once: the second does not clear what the first is writing, and one of them wins."""
    with new_folder.making(tmp_path / "cleaned") as first:
        (first / "file").touch()
        clean()
        assert (first / "file").exists()
        expected = contents(tmp_path / "cleaned")
        with pytest.raises(new_folder.InputError, match="already there"):
            new_folder.check(tmp_path / "cleaned")
        os.rename(tmp_path / "cleaned", tmp_path / "other")
    assert contents(tmp_path / "other") == expected and (tmp_path / "cleaned/file").exists()
    assert not leftovers(tmp_path)
