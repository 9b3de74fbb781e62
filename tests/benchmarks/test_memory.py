import json

import pytest
import torch

from benchmarks import simulate


def test_simulated_files_are_read_back(tmp_path):
    simulate.write(tmp_path, 300, dim=16, classes=20, seed=1)
    features, probs, labels, is_noisy = simulate.read(tmp_path)
    block = next(simulate.simulate(300, dim=16, classes=20, seed=1))
    assert torch.equal(features, block[0]) and torch.equal(labels, block[2])
    torch.testing.assert_close(probs.sum(1), torch.ones(300))
    assert 0.02 < is_noisy.float().mean() < 0.15


@pytest.mark.slow  # minutes: every pair of 50,000 rows
def test_label_noise_needs_less_than_a_gibibyte_above_its_inputs(script):
    done = script("benchmarks/memory.py", "--n", "50000", process=True)
    assert json.loads(done.stdout)["above_inputs_mib"] < 1024
