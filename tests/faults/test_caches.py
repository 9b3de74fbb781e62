"""What is kept from a run is used again for the same, and for nothing else."""

from dataclasses import replace

import pytest
import torch

from experiment.files import reading, writing
from experiment.run import cache as graph_module
from experiment.run.cache import CachedScores, made_from
from experiment.run.settings import Settings

pytestmark = pytest.mark.promise("caches")
SETTINGS = Settings("cos_p", 4, 0.03, 1, 250, "float32", "cpu")
N = 5


@pytest.fixture
def kept(tmp_path):
    graph = CachedScores(tmp_path / "graph_cos_p_pow4.pt")
    graph.save(torch.arange(N) / 3, "data", SETTINGS)
    return graph


def test_the_same_is_used_whatever_chunk_and_device(kept):
    for settings in (SETTINGS, replace(SETTINGS, chunk=7), replace(SETTINGS, device="auto")):
        assert kept.load(N, "data", settings).tolist() == (torch.arange(N) / 3).tolist()


@pytest.mark.parametrize("change", [
    {"kernel": "cos"}, {"temperature": 1}, {"temperature": 4.5}, {"threshold": 0.031},
    {"dtype": "float16"}, {"dtype": "bfloat16"}, {"hop": 2}])
def test_other_settings_are_not(kept, change):
    assert kept.load(N, "data", replace(SETTINGS, **change)) is None


def test_other_data_or_another_engine_are_not(kept, monkeypatch):
    assert kept.load(N, "other data", SETTINGS) is None
    monkeypatch.setattr(graph_module, "ENGINE", graph_module.ENGINE + 1)
    assert kept.load(N, "data", SETTINGS) is None


def test_every_thing_that_scores_depend_on_is_in_the_sidecar(kept):
    assert set(reading.load_json(kept.sidecar)) == {
        "engine", "data", "kernel", "temperature", "threshold", "hop", "dtype", "scores_sha256"}
    # s0 comes before refinement
    later = {"noise_threshold", "n_iter", "graph", "probs", "auto", "duplicates"}
    assert set(made_from("", SETTINGS)) | later | {"chunk", "device", "engine", "data"} \
        == set(vars(SETTINGS)) | {"engine", "data"}


def test_scores_that_the_sidecar_does_not_speak_for_are_not(kept):
    """Two runs wrote in turn, or the file was brought from elsewhere."""
    writing.save({"score": torch.ones(N)}, kept.path)
    assert kept.load(N, "data", SETTINGS) is None
    assert CachedScores(kept.path, trusted=True).load(N, "data", SETTINGS).tolist() == [1] * N


@pytest.mark.parametrize("missing", ["path", "sidecar"])
def test_half_of_the_pair_is_not(kept, missing):
    getattr(kept, missing).unlink()
    assert kept.load(N, "data", SETTINGS) is None


def test_a_published_file_is_used_on_request_only_and_never_replaced(kept):
    kept.sidecar.unlink()
    before = kept.path.read_bytes()
    assert "no record of what it was computed from" in kept.save(torch.ones(N), "data", SETTINGS)
    assert kept.path.read_bytes() == before
    assert CachedScores(kept.path, trusted=True).load(N, "", SETTINGS) is not None
