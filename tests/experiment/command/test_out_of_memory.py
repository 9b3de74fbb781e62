import pytest
import torch

from experiment.command.errors import InputError
from experiment.command.out_of_memory import extracting, halving

pytestmark = pytest.mark.promise("memory")
ERRORS = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
          RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
          RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
          RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
          RuntimeError("std::bad_alloc"),
          RuntimeError("unable to mmap 40 bytes from file <a.pt>: Cannot allocate memory (12)")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_until_it_goes(error, capsys):
    tried = []

    def compute(chunk):
        tried.append(chunk)
        if chunk > 40:
            raise error
        return "done"
    assert halving(compute, 250) == "done" and tried == [250, 125, 63, 32]
    assert "out of memory: 32 rows at a time from here on" in capsys.readouterr().out
    with pytest.raises(InputError, match="out of memory with one row at a time"):
        halving(lambda chunk: compute(1000), 250)


def test_other_errors_are_not_out_of_memory(monkeypatch):
    for error in (RuntimeError("shapes differ"), KeyError("memory")):
        def fail(chunk, error=error):
            raise error
        with pytest.raises(type(error)):
            halving(fail, 250)
    monkeypatch.setenv("WORLD_SIZE", "2")  # the others would wait for ever
    with pytest.raises(MemoryError):
        halving(lambda chunk: [][0] if chunk < 250 else raise_(MemoryError()), 250)


def raise_(error):
    raise error


def test_extraction_is_tried_again_by_whichever_process_does_it(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert extracting(lambda size: size if size < 3 else raise_(MemoryError()), 8, "clip") == 2
    assert "out of memory: 2 clips at a time from here on" in capsys.readouterr().out
    with pytest.raises(InputError, match="out of memory with one clip at a time; a smaller networ"):
        extracting(lambda size: raise_(MemoryError()), 8, "clip")
