import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

import relation
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.targets import read_targets
from speech import data, demo, models, noise, training
from speech.recipe import Recipe
from tests.conftest import ROOT

RECIPE = Recipe(epochs=4, keep=(2, 4), learning_rate=1e-3, batch_size=5, clips_per_pass=2)


def new_network():
    torch.manual_seed(0)
    return models.new(classes=3, frames=32, width=64, depth=1)


def fit(folder, clip_folder, recipe=RECIPE):
    clips = data.read_clips(clip_folder)
    labels = noise.planted_labels(folder, clips, seed=0)
    training.fit(new_network(), clips, labels, folder, recipe, device="cpu", progress=False)
    return reading.load(folder / "training.pt")


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_the_published_recipe():
    recipe, network = Recipe(epochs=7), new_network()
    assert (recipe.batch_size, recipe.learning_rate) == (48, 1e-5)
    assert (recipe.frequency_mask, recipe.time_mask) == (24, 96)
    assert Recipe().epochs == 25 and recipe.keep == (5, 15, 25)
    rates, steps = [], []
    seen = torch.optim.Adam.step

    def step(self, *args):
        group = self.param_groups[0]
        assert group["betas"] == (0.95, 0.999) and group["weight_decay"] == 5e-7
        rates.append(group["lr"])
        return seen(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.Adam, "step", step)
        for _ in training.epochs(network, torch.randn(49, 32, 128), torch.arange(49) % 3,
                                 ROOT / "does not matter", recipe, device="cpu", progress=False):
            steps.append(len(rates))
            if len(steps) == 7:
                break  # before a state is written
            patched.setattr(writing, "save", lambda *args: None)
    assert steps == [2, 4, 6, 8, 10, 12, 14]  # the last batch of an epoch may be smaller
    assert rates[::2] == pytest.approx([1e-5] * 5 + [1e-5 * 0.85, 1e-5 * 0.85 ** 2])


def test_a_batch_in_passes_is_the_same_step():
    weights = []
    for clips_per_pass in (2, 7):
        network = new_network()
        optimizer = torch.optim.SGD(network.model.parameters(), lr=1.0)
        torch.manual_seed(1)
        total = training._step(network, optimizer, torch.randn(7, 32, 128), torch.arange(7) % 3,
                               clips_per_pass=clips_per_pass)
        assert total / 7 == pytest.approx(1.1, abs=0.5)  # near log 3 before any training
        weights.append(network.model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-5, rtol=0)


def test_masks_are_bands_of_padding():
    network, recipe = new_network(), Recipe(frequency_mask=24, time_mask=20)
    inputs = torch.ones(200, 32, 128)
    padding = torch.tensor(6.6268077 / (2 * 5.358466))
    made = training.masked(inputs, recipe, network, torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.unique(), torch.tensor([padding, 1.0]))
    hidden = made != 1
    bins, frames = hidden.all(1).sum(1), hidden.all(2).sum(1)
    assert bins.min() == 0 and bins.max() == 23 and frames.min() == 0 and frames.max() == 19
    for clip in hidden:  # one band each way and nothing else
        rows, columns = clip.all(1), clip.all(0)
        assert torch.equal(clip, rows[:, None] | columns)
        for line in (rows, columns):
            assert line.int().diff().abs().sum() <= 2
    assert torch.equal(inputs, torch.ones(200, 32, 128))


def test_checkpoints_and_features_are_in_the_published_form(tmp_path, clips):
    state = fit(tmp_path / "out", clips(20))
    assert state["steps"] == 4 * 3  # 12 clips in batches of 5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audio_model_epoch2.pth", "audio_model_epoch4.pth", "feat_train_2.pt", "feat_train_4.pt",
        "target_noisy0.1.pt", "training.pt"]
    written = reading.load(tmp_path / "out/audio_model_epoch4.pth")
    assert all(name.startswith("module.") for name in written)
    stored = reading.load(tmp_path / "out/feat_train_4.pt")
    assert stored["feat"].shape == (12, 64) and stored["logit"].shape == (12, 3)
    network = models.load_published(tmp_path / "out/audio_model_epoch4.pth")
    assert same(network.model.state_dict(), state["model"])


def test_a_finished_run_writes_its_last_network_again(tmp_path, clips):
    clip_folder = clips(20)
    fit(tmp_path, clip_folder, replace(RECIPE, keep=()))
    names = "audio_model_epoch4.pth", "feat_train_4.pt"
    first = [reading.load(tmp_path / name) for name in names]
    for name in names:
        (tmp_path / name).unlink()
    fit(tmp_path, clip_folder, replace(RECIPE, keep=()))
    for name, content in zip(names, first):
        assert same(reading.load(tmp_path / name), content)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, clips, monkeypatch, capsys):
    clip_folder = clips(20)
    whole = fit(tmp_path / "whole", clip_folder)
    with monkeypatch.context() as patched:
        def stop(network, batches, *, device):
            raise KeyboardInterrupt
        patched.setattr(training.features, "extract", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", clip_folder)  # in epoch 2, whose state is not written yet
    assert reading.load(tmp_path / "cut/training.pt")["epoch"] == 1
    resumed = fit(tmp_path / "cut", clip_folder)
    assert "training.pt: resuming after epoch 1, step 3" in capsys.readouterr().out
    assert (resumed["epoch"], resumed["steps"]) == (whole["epoch"], whole["steps"]) == (4, 12)
    assert same(resumed["model"], whole["model"])
    assert same(reading.load(tmp_path / "cut/feat_train_4.pt"),
                reading.load(tmp_path / "whole/feat_train_4.pt"))


def test_other_settings_do_not_go_on_from_a_state(tmp_path, clips):
    clip_folder = clips(20)
    fit(tmp_path, clip_folder, replace(RECIPE, epochs=1))
    with pytest.raises(InputError, match="was begun with another epochs, learning_rate; remove"):
        fit(tmp_path, clip_folder, replace(RECIPE, learning_rate=1.0))


@pytest.mark.fault  # two processes that import torch
def test_a_killed_process_goes_on(tmp_path, clips, ast_folder):
    clip_folder = clips(60)

    def start(folder):
        return subprocess.Popen(
            [sys.executable, str(ROOT / "speech/train.py"), "--data_dir", str(clip_folder),
             "--cache_dir", str(folder), "-n", str(ast_folder), "--epochs", "40", "--lr", "0.001",
             "--batch_size", "6"], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    killed = start(tmp_path / "killed")
    while not (tmp_path / "killed/training.pt").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    cut = reading.load(tmp_path / "killed/training.pt")
    assert 1 <= cut["epoch"] < 40 and cut["steps"] == 6 * cut["epoch"]

    again, whole = start(tmp_path / "killed"), start(tmp_path / "whole")
    for process in (again, whole):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    resumed, uncut = (reading.load(tmp_path / name / "training.pt") for name in ("killed", "whole"))
    assert resumed["steps"] == uncut["steps"] == 240
    assert same(resumed["model"], uncut["model"])
    network = models.load_published(tmp_path / "killed/audio_model_epoch40.pth")
    assert same(network.model.state_dict(), uncut["model"])


def test_names_of_clips_do_not_move_the_cursor(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "mixing_notes", lambda files: ("the first is \x1b[31m.wav",))
    fit(tmp_path, clips(), replace(RECIPE, epochs=1, keep=(1,)))
    assert "note: the first is \\x1b[31m.wav\n" in capsys.readouterr().out


def test_training_extraction_detection_find_planted_errors(tmp_path, monkeypatch):
    """The demo in small: four kinds of sound, a tenth of the labels wrong."""
    monkeypatch.setattr(demo, "SOUNDS", (demo.whistle, demo.buzz, demo.hiss, demo.clicks))
    demo.write_clips(tmp_path / "data", per_class=50)
    clips = data.read_clips(tmp_path / "data")
    labels = noise.planted_labels(tmp_path, clips, seed=0)
    torch.manual_seed(0)
    network = models.new(classes=4, frames=demo.FRAMES, width=64, depth=1)
    recipe = replace(demo.RECIPE, epochs=10, keep=(10,), learning_rate=2e-3, decay_after=2,
                     batch_size=16, frequency_mask=16, time_mask=16)
    training.fit(network, clips, labels, tmp_path, recipe, device="cpu", progress=False)
    _, given, is_noisy = read_targets(tmp_path / noise.TARGETS)
    stored = reading.load(tmp_path / "feat_train_10.pt")
    probs = stored["logit"].softmax(1)
    scores = {"relation": relation.detect_label_noise(stored["feat"], probs, given,
                                                      temperature=8).scores,
              **relation.label_baseline_scores(stored["feat"], probs, given)}
    ap = {name: relation.evaluate(scores[name].numpy(), is_noisy.numpy()).ap
          for name in ("relation", "loss")}
    print(ap)
    assert is_noisy.sum() == 16 and min(ap.values()) > 0.5  # chance is 0.1
