import gc
import os
from pathlib import Path

import pytest
import torch

from experiment.files import scratch


def mapped_from(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


def written(array: scratch.Scratch, rows: torch.Tensor) -> torch.Tensor:
    for start in (100, 0):  # in any order
        array.write(start, rows[start:start + 200 if start else 100])
    return array.rows


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux's list of mappings")
def test_large_arrays_lie_in_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY", 1000)
    array = written(scratch.Scratch(tmp_path, 300, 7), torch.arange(7).repeat(300, 1))
    assert array.dtype == torch.float32 and array.sum() == 300 * 21
    assert mapped_from(tmp_path) == 1 and list(tmp_path.iterdir()) == []
    half = written(scratch.Scratch(tmp_path, 300, 7, torch.bfloat16), array)
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), array)
    assert mapped_from(tmp_path) == 2
    del array, half
    gc.collect()
    assert mapped_from(tmp_path) == 0


def test_small_ones_and_those_without_room_lie_in_memory(tmp_path, monkeypatch):
    assert scratch.Scratch(tmp_path, 3, 7).rows.shape == (3, 7)
    monkeypatch.setattr(scratch, "IN_MEMORY", 1000)
    assert scratch.Scratch(tmp_path / "nowhere", 300, 7).rows.shape == (300, 7)
    assert scratch.Scratch(None, 300, 7, torch.float16).rows.dtype == torch.float16

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert scratch.Scratch(tmp_path, 300, 7).rows.shape == (300, 7)
    assert list(tmp_path.iterdir()) == []


def test_chosen_rows_are_written_block_by_block(tmp_path, monkeypatch):
    values, which = torch.rand(500, 7).half(), torch.arange(400, 0, -1)
    assert torch.equal(scratch.taken(tmp_path, values, which), values[which])
    monkeypatch.setattr(scratch, "IN_MEMORY", 1000)
    monkeypatch.setattr(scratch, "BLOCK", 64)
    taken = scratch.taken(tmp_path, values, which)
    assert taken.dtype == torch.float16 and torch.equal(taken, values[which])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_memory", [10**6, 100])
def test_a_block_of_another_shape_is_refused(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(scratch, "IN_MEMORY", in_memory)
    array = scratch.Scratch(tmp_path, 30, 7)
    array.write(30, torch.empty(0, 7))
    for start, shape in ((0, (5, 9)), (0, (5, 1)), (28, (5, 7))):
        with pytest.raises(ValueError, match=r"do not fit into \(30, 7\)"):
            array.write(start, torch.ones(shape))


def test_a_file_that_takes_little_at_a_time_gets_all(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY", 100)
    rows, pwrite = torch.rand(30, 7), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, at: pwrite(file, content[:10], at))
    array = scratch.Scratch(tmp_path, 30, 7)
    array.write(0, rows)
    assert torch.equal(array.rows, rows)
