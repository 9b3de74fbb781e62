import gc
import os
from pathlib import Path

import pytest
import torch

from experiment.files import scratch


def mapped_from(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux's list of mappings")
def test_large_arrays_lie_in_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY", 1000)
    array = scratch.empty(tmp_path, 300, 7)
    array[:] = torch.arange(7)
    assert array.dtype == torch.float32 and array.sum() == 300 * 21
    assert mapped_from(tmp_path) == 1 and list(tmp_path.iterdir()) == []
    half = scratch.empty(tmp_path, 300, 7, torch.bfloat16)
    half[:] = array
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), array)
    assert mapped_from(tmp_path) == 2
    del array, half
    gc.collect()
    assert mapped_from(tmp_path) == 0


def test_small_ones_and_those_without_room_lie_in_memory(tmp_path, monkeypatch):
    assert scratch.empty(tmp_path, 3, 7).shape == (3, 7)
    monkeypatch.setattr(scratch, "IN_MEMORY", 1000)
    assert scratch.empty(tmp_path / "nowhere", 300, 7).shape == (300, 7)
    assert scratch.empty(None, 300, 7, torch.float16).dtype == torch.float16

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert scratch.empty(tmp_path, 300, 7).shape == (300, 7)
    assert list(tmp_path.iterdir()) == []
