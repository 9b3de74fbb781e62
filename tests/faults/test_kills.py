"""SIGKILL at random moments of every kind of command, then the same command again."""

import random
import shutil

import pytest

from experiment.files import reading
from tests.faults.commands import contents, leftovers

pytestmark = [pytest.mark.promise("kills"), pytest.mark.fault]
KILLS = 10  # of each command: 70 in all


def whole(folder):
    """Every visible file can be read: none is half there."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or ".part" in str(path) or not path.is_file():
            continue
        if path.suffix in (".pt", ".pth"):
            reading.load(path)
        elif path.suffix == ".json":
            reading.load_json(path)
        elif path.suffix == ".safetensors":
            reading.load_safetensors(path)


def test_killed_at_random_moments(command, undisturbed, tmp_path, fault_seed, record_property):
    expected, seconds = undisturbed
    chance, kills = random.Random(f"{fault_seed} {command.name}"), 0
    while kills < KILLS:
        running = command(tmp_path)
        if running.wait(chance.uniform(0.02, 1) * seconds) is None:
            running.kill(group=chance.random() < 0.5)
            kills += running.process.exitcode < 0
            whole(tmp_path / "results")
        else:  # done before the kill: begin anew
            assert running.process.exitcode == 0, running.err
            assert contents(tmp_path / "results") == expected
            shutil.rmtree(tmp_path / "results")
        if chance.random() < 0.2:
            shutil.rmtree(tmp_path / "results", ignore_errors=True)
    command(tmp_path).done()
    assert contents(tmp_path / "results") == expected
    assert not leftovers(tmp_path / "results")
    record_property("cases", kills)
