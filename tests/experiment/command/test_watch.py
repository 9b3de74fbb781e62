from pathlib import Path

import pytest
import torch

from experiment.command import watch
from experiment.command.watch import Watch, peak_memory_mib

linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="read from /proc")


@linux
def test_the_largest_memory_stays_when_it_is_freed():
    with Watch() as seen:
        held = torch.ones(2**25)  # 128 MiB
        there = peak_memory_mib()
        del held
        assert there >= seen.start + 120 and peak_memory_mib() >= there
    with Watch() as later:
        assert later.mib < later.start + 60


@linux
def test_pages_of_files_do_not_count(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(2**27)
    mapped = torch.from_file(str(path), size=2**25)
    with Watch() as seen:
        assert mapped.sum() == 0  # all of them are read
        assert seen.mib < seen.start + 60


def test_the_innermost_open_watch_is_asked():
    assert Watch.latest() is None
    with Watch() as outer:
        with Watch() as inner:
            assert Watch.latest() is inner
        assert Watch.latest() is outer
    assert Watch.latest() is None


def test_without_proc_the_largest_resident_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "STATUS", tmp_path / "none")
    with Watch() as seen:
        assert seen.mib > 10
    assert peak_memory_mib() > 10
