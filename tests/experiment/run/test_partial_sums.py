"""A run that is killed goes on where it was, and ends with the same result."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from experiment.run.cache import PartialSums
from experiment.run.settings import Settings
from relation import detect_ood, relation_scores
from tests.conftest import ROOT

SETTINGS = Settings(kernel="cos_p", temperature=4, threshold=0.03, hop=1, chunk=8,
                            dtype="float32", device="cpu")


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr("experiment.run.cache.EVERY", 0.0)


class Interrupted(Exception):
    pass


class DiesAfter(PartialSums):
    """The run is lost once so many blocks are kept."""

    blocks = 5

    def offer(self, done, sums):
        super().offer(done, sums)
        if done == self.blocks:
            raise Interrupted


@pytest.mark.parametrize("kernel", ["cos_p", "cos"])
def test_going_on_gives_the_very_same_scores(clusters, tmp_path, always, kernel):
    features, probs, labels, _ = clusters
    how = dict(kernel=kernel, chunk=8)
    whole = relation_scores(features, probs, labels, **how)
    with pytest.raises(Interrupted):
        relation_scores(features, probs, labels, **how,
                        checkpoint=DiesAfter(tmp_path, SETTINGS, "data"))
    kept = PartialSums(tmp_path, SETTINGS, "data")
    seen = []
    offer, kept.offer = kept.offer, lambda done, sums: (seen.append(done), offer(done, sums))
    assert torch.equal(relation_scores(features, probs, labels, **how, checkpoint=kept), whole)
    assert seen[0] == 6  # after the five that were kept
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_outliers_go_on_too(clusters, tmp_path, always):
    features, probs, _, _ = clusters
    pair = (features[:60], probs[:60], features[60:], probs[60:])
    with pytest.raises(Interrupted):
        detect_ood(*pair, chunk=8, checkpoint=DiesAfter(tmp_path, SETTINGS, "data"))
    kept = PartialSums(tmp_path, SETTINGS, "data")
    assert torch.equal(detect_ood(*pair, chunk=8, checkpoint=kept), detect_ood(*pair, chunk=8))


@pytest.mark.parametrize("changed", [dict(temperature=2), dict(chunk=9), dict(threshold=0.1),
                                     dict(dtype="float16")])
def test_other_settings_or_data_are_not_gone_on_from(tmp_path, always, changed):
    kept = PartialSums(tmp_path, SETTINGS, "data")
    assert kept.load("blocks") is None
    kept.offer(3, torch.ones(4, dtype=torch.float64))
    assert kept.load("blocks")[0] == 3
    others = Settings(**vars(SETTINGS) | changed)
    other = PartialSums(tmp_path, others, "data")
    other.path = kept.path  # whatever its name
    assert other.load("blocks") is None
    assert PartialSums(tmp_path, SETTINGS, "other data").load("blocks") is None
    assert kept.load("other blocks") is None


def test_a_run_that_is_done_removes_its_own_and_no_other(tmp_path, always):
    """Its own: those of a run with more processes, too."""
    runs = [PartialSums(tmp_path, SETTINGS, data) for data in ("data", "other data")]
    for run in runs:
        run.offer(3, torch.ones(4, dtype=torch.float64))
    (tmp_path / runs[0].path.name.replace("process0", "process3")).write_bytes(b"")
    runs[0].remove()
    assert list(tmp_path.iterdir()) == [runs[1].path]


def test_a_broken_file_is_begun_anew(tmp_path, always):
    kept = PartialSums(tmp_path, SETTINGS, "data")
    assert kept.load("blocks") is None
    kept.offer(3, torch.ones(4, dtype=torch.float64))
    kept.path.write_bytes(kept.path.read_bytes()[:200])
    assert kept.load("blocks") is None


def test_a_run_goes_on_where_its_sums_cannot_be_kept(script, clusters, tmp_path, always):
    """One line, once; with the same scores."""
    features, probs, labels, _ = clusters
    train, results = tmp_path / "train.npz", tmp_path / "results"
    np.savez(train, features=features, probs=probs, labels=labels)
    results.write_text("a file where the folder should be")
    done = script("detect.py", "--features", train, "--chunk", "8", "--auto", "False",
                  "--cache_dir", results, "--output", tmp_path / "report")
    assert done.stdout.count("this run cannot resume after a kill: ") == 1
    assert "_process0.pt: cannot be written" in done.stdout
    assert (tmp_path / "report/scores.csv").exists()


def test_a_killed_script_goes_on_and_leaves_nothing_behind(script, tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 40, 3000)
    train = tmp_path / "train.npz"
    np.savez(train, features=generator.normal(size=(3000, 16)), labels=labels,
             logits=5 * np.eye(40)[labels] + generator.normal(size=(3000, 40)))
    how = ["--features", str(train), "--chunk", "16", "--auto", "False", "--kernel", "cos"]
    script("detect.py", *how, "--cache_dir", str(tmp_path / "whole"))
    # A process that keeps its sums after every block, and kills itself after the 40th.
    killed = """
import os, signal, sys
from experiment.run import cache
cache.EVERY = 0.0
offer = cache.PartialSums.offer
def offer_and_die(self, done, sums):
    offer(self, done, sums)
    if done == 40:
        os.kill(os.getpid(), signal.SIGKILL)
cache.PartialSums.offer = offer_and_die
import detect
detect.main(detect.get_args_parser().parse_args(sys.argv[1:]))
"""
    again = [*how, "--cache_dir", str(tmp_path / "again")]
    done = subprocess.run([sys.executable, "-c", killed, *again], capture_output=True,
                          cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "again" / "train"
    assert len(list(folder.glob("partial_cos_pow4_*_process0.pt"))) == 1
    script("detect.py", *again)
    assert not list(folder.glob("partial*"))
    assert (folder / "report" / "scores.csv").read_bytes() == \
        (tmp_path / "whole" / "train" / "report" / "scores.csv").read_bytes()
