"""Thousands of mutations of every kind of file: read or refused, never anything else."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ENDINGS = (".npz", ".pt", ".safetensors", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".png",
           ".jpg", ".wav", ".mp3")


@pytest.mark.fuzz
@pytest.mark.parametrize("ending", ENDINGS)
def test_mutated_files(tmp_path, ending, fuzz_count, fault_seed):
    """Exit status 0 or 2; no traceback, none over 20 s or 1 GiB. What fails stays in `tmp_path`."""
    found = mutated(tmp_path, ending, fuzz_count, fault_seed)
    assert not found["failed"], "\n".join(f"{tmp_path / name}: {why}"
                                          for name, why in found["failed"].items())
    assert sum(found["seen"].values()) == fuzz_count
    assert min(found["seen"].values()) > 0, found["seen"]  # else mutations go too far, or nowhere


def mutated(folder, *words):
    ran = subprocess.run([sys.executable, "-m", "tests.fuzz.mutated", *map(str, words), folder],
                         cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, f"{folder / 'now'} says which file: {ran.stderr}"
    return json.loads(ran.stdout)
