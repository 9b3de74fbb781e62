import csv

import numpy as np
import pytest
import torch

from experiment.run.cache import CachedScores
from experiment.run.settings import Settings

pytestmark = pytest.mark.promise("caches")


@pytest.fixture
def words(feature_file, tmp_path):
    return "detect.py", "--features", feature_file, "--cache_dir", tmp_path, "--verbose", "False"


def relation_scores(folder):
    with open(folder / "train/report/scores.csv", newline="") as file:
        return [row["relation_score"] for row in csv.DictReader(file)]


TAKEN = "relation scores before refinement are taken from"


def test_kept_in_the_published_form_and_used_again(script, words, tmp_path):
    assert TAKEN not in script(*words).stdout
    first = relation_scores(tmp_path)
    content = torch.load(tmp_path / "train/graph_cos_p_pow4.pt", weights_only=True)
    assert content["score"].shape == (120,) and content["top"] == content["low_val"] == []
    assert TAKEN in script(*words, "--chunk", "7").stdout
    np.testing.assert_allclose(np.float64(relation_scores(tmp_path)), np.float64(first), rtol=1e-5)


@pytest.mark.parametrize("change", [["--dtype", "float16"], ["--thres", "0.1"], ["--graph", "off"]])
def test_other_settings_compute_anew(script, words, change):
    script(*words)
    assert TAKEN not in script(*words, *change).stdout


def test_other_data_compute_anew(script, words, feature_file):
    script(*words)
    with np.load(feature_file) as file:
        data = dict(file)
    data["labels"][9] = 0
    np.savez(feature_file, **data)
    assert TAKEN not in script(*words).stdout


def test_without_a_sidecar_only_on_request(script, words, tmp_path):
    """As published: nothing says what it was computed from."""
    script(*words)
    graph = tmp_path / "train/graph_cos_p_pow4.pt"
    graph.with_suffix(".json").unlink()
    torch.save({"score": torch.arange(120.0), "top": [], "top_val": [], "low": [], "low_val": []},
               graph)
    assert TAKEN in script(*words, "--graph", graph).stdout
    scores = np.genfromtxt(tmp_path / "train/report/scores.csv", delimiter=",", skip_header=1)
    np.testing.assert_allclose(scores[:, 5], -np.arange(120) / 119, atol=1e-6)
    before = graph.read_bytes()
    shown = script(*words).stdout
    assert TAKEN not in shown and "neither used nor overwritten" in shown
    assert graph.read_bytes() == before


def test_scores_that_cannot_be_kept_are_still_reported(script, words, tmp_path):
    (tmp_path / "train").write_text("a file where the folder would be")
    shown = script(*words, "--output", tmp_path / "out").stdout
    assert "scores before refinement are not kept" in shown
    assert (tmp_path / "out/scores.csv").is_file()


@pytest.mark.parametrize("content", [{"score": torch.ones(3)}, torch.ones(120), {},
                                     {"score": torch.full((120,), float("nan"))}])
def test_a_file_that_does_not_fit_is_refused(refused, words, tmp_path, content):
    torch.save(content, tmp_path / "graph.pt")
    line = refused(*words, "--graph", tmp_path / "graph.pt")
    assert "graph.pt: expected a dict with finite scores (120,)" in line


def test_a_kill_between_the_two_files_leaves_nothing_to_be_trusted(tmp_path, monkeypatch):
    settings = Settings("cos_p", 4, 0.03, 1, 250, "float32", "cpu")
    graph = CachedScores.of("auto", tmp_path, settings)
    graph.save(torch.ones(5), "old data", settings)
    written = []

    def save_json(value, path):
        if value is not None:  # the one after the scores
            raise KeyError
        written.append(path)
        path.write_text("null")

    monkeypatch.setattr("experiment.files.writing.save_json", save_json)
    with pytest.raises(KeyError):
        graph.save(torch.zeros(5), "new data", settings)
    assert graph.load(5, "old data", settings) is None
    assert graph.load(5, "new data", settings) is None
    assert written == [graph.sidecar]


def test_partial_runs_are_not_kept(tmp_path):
    for hop, kernel in [(2, "cos_p"), (1, "cos")]:
        settings = Settings(kernel, 4, 0.03, hop, 250, "float32", "cpu")
        assert CachedScores.of("auto", tmp_path, settings) is None
