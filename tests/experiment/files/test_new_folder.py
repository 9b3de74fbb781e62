import os

import pytest

from experiment.command.errors import InputError
from experiment.files import new_folder


def test_nothing_is_there_before_the_end(tmp_path):
    with new_folder.making(tmp_path / "new") as folder:
        (folder / "below").mkdir()
        (folder / "below/file").write_text("x")
        assert not (tmp_path / "new").exists() and folder.parent == tmp_path
    assert (tmp_path / "new/below/file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_there_after_a_failure(tmp_path, error):
    with pytest.raises(error), new_folder.making(tmp_path / "new") as folder:
        (folder / "file").touch()
        raise error
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_gets_one_line(tmp_path):
    with pytest.raises(InputError, match="gone: cannot be written or read .No such file"), \
            new_folder.making(tmp_path / "new"):
        open(tmp_path / "gone")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file", "link to nothing"])
def test_what_is_there_stays(tmp_path, kind):
    target = tmp_path / "new"
    {"folder": target.mkdir, "file": target.touch,
     "link to nothing": lambda: target.symlink_to("nowhere")}[kind]()
    with pytest.raises(InputError, match="already there"), new_folder.making(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_one_that_comes_meanwhile_stays(tmp_path):
    with pytest.raises(InputError, match="already there"), new_folder.making(tmp_path / "new"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new/theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left, others = tmp_path / ".new.01234567.part", tmp_path / "photos"
    left.mkdir()
    (left / "file").touch()
    others.mkdir()
    (others / "file").touch()
    os.symlink(others, tmp_path / ".new.76543210.part")
    (tmp_path / ".newer.01234567.part").mkdir()
    with new_folder.making(tmp_path / "new"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".new.76543210.part", ".newer.01234567.part", "new", "photos"]
    assert (others / "file").exists()


def test_a_long_name(tmp_path):
    with new_folder.making(tmp_path / ("ü" * 127)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["ü" * 127]


def test_without_a_parent(tmp_path):
    with pytest.raises(InputError, match="a/b: no folder"):
        new_folder.check(tmp_path / "a/b")
