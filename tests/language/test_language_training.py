import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.extraction import Extraction
from language import demo, models, noise, samples, training
from language.schedule import WARMUP, Schedule
from language.training import train
from relation import detect_label_noise, evaluate, label_baseline_scores
from tests.conftest import ROOT

SCHEDULE = Schedule(epochs=4, batch_size=16, learning_rate=3e-3, max_length=32)


def weights(folder, epoch):
    return models.load(folder / f"epoch_{epoch}", [folder]).model.state_dict()


def record(folder, epoch):
    return json.loads((folder / f"epoch_{epoch}/training.json").read_text())


def test_schedule_is_the_published_one():
    schedule = Schedule()
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate, schedule.weight_decay) \
        == (10, 32, 1e-5, 0.1)
    assert WARMUP == {"sst2": 1256, "mnli": 7432}


def test_weights_decay_and_neither_biases_nor_norms(classifier):
    decaying, others = training.optimizer_of(classifier.model, SCHEDULE).param_groups
    names = {id(parameter): name for name, parameter in classifier.model.named_parameters()}
    for group, decay in ((decaying, 0.1), (others, 0.0)):
        assert group["weight_decay"] == decay and group["lr"] == 3e-3
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            assert (name.endswith("bias") or "LayerNorm" in name) == (decay == 0)
    assert not names


def test_learning_rate_rises_and_falls(tmp_path, classifier, texts, monkeypatch):
    rates = []
    run = training._run_epoch

    def spied(classifier, texts, labels, epoch, parts, *words, **how):
        decay, optimizer = parts["decay"], parts["optimizer"]
        step = decay.step
        decay.step = lambda: (rates.append(optimizer.param_groups[0]["lr"]), step())
        loss = run(classifier, texts, labels, epoch, parts, *words, **how)
        decay.step = step
        return loss
    monkeypatch.setattr(training, "_run_epoch", spied)
    train(classifier, texts, texts.labels, tmp_path / "m",
          schedule=replace(SCHEDULE, epochs=2, warmup=4))
    # 10 steps of 16 texts: up to 3e-3 in 4, down to 1e-7 in the 6 that are left
    expected = [0, 0.25, 0.5, 0.75, *[1 - done / 6 for done in range(6)]]
    assert rates == pytest.approx([3e-3 * share for share in expected], abs=2e-7)


def test_smallest_learning_rates(tmp_path, classifier, texts):
    """Decay ends below a rate that is itself below the usual end."""
    train(classifier, texts, texts.labels, tmp_path / "m",
          schedule=replace(SCHEDULE, epochs=1, learning_rate=1e-8))
    parts = training._parts(classifier.model, replace(SCHEDULE, learning_rate=1e-8, warmup=1), 2)
    for expected in (0, 1e-8, 1e-9):
        assert parts["optimizer"].param_groups[0]["lr"] == pytest.approx(expected)
        parts["optimizer"].step()
        parts["decay"].step()


def test_resumed_is_the_same_as_never_interrupted(tmp_path, texts, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(demo.tiny_roberta(texts), texts, texts.labels, whole, schedule=SCHEDULE)
    run = training._run_epoch

    def until_third(classifier, texts, labels, epoch, *words, **how):
        if epoch == 3:
            raise KeyboardInterrupt
        return run(classifier, texts, labels, epoch, *words, **how)
    monkeypatch.setattr(training, "_run_epoch", until_third)
    with pytest.raises(KeyboardInterrupt):
        train(demo.tiny_roberta(texts), texts, texts.labels, cut, schedule=SCHEDULE)
    assert [(cut / f"epoch_{epoch}/training.pt").exists() for epoch in (1, 2)] == [False, True]
    (cut / ".epoch_3.part").mkdir()  # what a kill while writing leaves
    (cut / ".epoch_3.part/model.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(training, "_run_epoch", run)
    train(demo.tiny_roberta(texts), texts, texts.labels, cut, schedule=SCHEDULE)
    for epoch in (3, 4):
        torch.testing.assert_close(weights(cut, epoch), weights(whole, epoch), rtol=0, atol=0)
        assert record(cut, epoch) == record(whole, epoch)
    assert record(cut, 4)["step"] == record(cut, 4)["settings"]["steps"] == 20
    assert not list(cut.rglob("training.pt")) and not list(cut.glob(".*"))


@pytest.mark.promise("files")
def test_weights_that_changed_since_are_not_gone_on_from(tmp_path, texts, monkeypatch):
    run = training._run_epoch

    def one_epoch(classifier, texts, labels, epoch, *words, **how):
        if epoch == 2:
            raise KeyboardInterrupt
        return run(classifier, texts, labels, epoch, *words, **how)
    monkeypatch.setattr(training, "_run_epoch", one_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(demo.tiny_roberta(texts), texts, texts.labels, tmp_path, schedule=SCHEDULE)
    weights = tmp_path / "epoch_1/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="epoch_1: its weights are not as they were written"):
        train(demo.tiny_roberta(texts), texts, texts.labels, tmp_path, schedule=SCHEDULE)


def test_finished_training_is_left_alone(tmp_path, classifier, texts, capsys):
    schedule = replace(SCHEDULE, epochs=1)
    for expected in ("epoch 1, step 5, loss", ""):
        train(classifier, texts, texts.labels, tmp_path, schedule=schedule)
        assert capsys.readouterr().out.startswith(expected)
    assert capsys.readouterr().out == ""


def test_states_that_a_kill_left_are_swept(tmp_path, classifier, texts, monkeypatch):
    """A kill after the rename of an epoch leaves the state before it: once here, once at the end.
    """
    schedule = replace(SCHEDULE, epochs=3)

    def states():
        return [path.parent.name for path in sorted(tmp_path.rglob("training.pt"))]

    def fit():
        train(classifier, texts, texts.labels, tmp_path, schedule=schedule)

    def killed(epoch, folder):
        if epoch == 2:
            raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(training, "_drop_states_before", killed)
        with pytest.raises(KeyboardInterrupt):
            fit()
    assert states() == ["epoch_1", "epoch_2"]
    fit()
    assert states() == []
    for epoch in (1, 2):
        writing.save(1, tmp_path / f"epoch_{epoch}/training.pt")
    fit()
    assert states() == []


@pytest.mark.parametrize("content", ["", "{torn", "[]", "{}", '{"settings": 1}', "\0"])
def test_unreadable_record(tmp_path, classifier, texts, content):
    (tmp_path / "epoch_1").mkdir()
    (tmp_path / "epoch_1/training.json").write_text(content)
    with pytest.raises(InputError, match="epoch_1/training.json: expected JSON with the settings "
                                         ".*; choose another --model_name or remove") as refusal:
        train(classifier, texts, texts.labels, tmp_path, schedule=SCHEDULE)
    assert "\n" not in str(refusal.value)


def test_refuses_to_go_on_from_another_training(tmp_path, classifier, texts):
    folder = tmp_path / "m"
    train(classifier, texts, texts.labels, folder, schedule=replace(SCHEDULE, epochs=1))
    for schedule, labels, what in ((SCHEDULE, texts.labels, "epochs, steps"),
                                   (replace(SCHEDULE, epochs=1, seed=7), texts.labels, "seed"),
                                   (replace(SCHEDULE, epochs=1), 1 - texts.labels, "labels")):
        with pytest.raises(InputError, match=f"epoch_1: from another training, with other {what}; "
                                             "choose another --model_name or remove"):
            train(classifier, texts, labels, folder, schedule=schedule)
    (folder / "epoch_1/training.json").unlink()
    with pytest.raises(InputError, match="epoch_1: from another training"):
        train(classifier, texts, texts.labels, folder, schedule=SCHEDULE)


def test_lost_loss(tmp_path, classifier, texts):
    with torch.no_grad():
        classifier.model.classifier.out_proj.bias[0] = float("nan")
    with pytest.raises(InputError, match="epoch 1: the loss is no longer finite; try a smaller"):
        train(classifier, texts, texts.labels, tmp_path / "m", schedule=SCHEDULE)
    assert not list(tmp_path.glob("m/epoch_*"))


def test_labels_beyond_the_model(tmp_path, classifier, texts):
    with pytest.raises(InputError, match="labels: expected 0 to 1, got 2"):
        train(classifier, texts, texts.labels + 1, tmp_path, schedule=SCHEDULE)


def test_full_disk(tmp_path, classifier, texts, monkeypatch):
    def save(value, path):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(writing, "save", save)
    with pytest.raises(InputError, match=r"\.epoch_1\.part: cannot be written .*No space left"):
        train(classifier, texts, texts.labels, tmp_path / "m", schedule=SCHEDULE)
    assert not list(tmp_path.glob("m/epoch_*"))


def test_trained_on_wrong_labels_the_features_find_them(tmp_path, data_dir, texts):
    """Training, extraction and detection, on 8 of 80 labels that are wrong."""
    folder = tmp_path / "cache/sst2"
    changed = torch.arange(3, 80, 10)
    targets = texts.labels.clone()
    targets[changed] = 1 - targets[changed]
    noise.save_targets(targets, changed, folder / noise.TARGET)
    train(demo.tiny_roberta(texts), texts, targets, folder / "tiny",
          schedule=replace(SCHEDULE, epochs=8))
    found = samples.load_train(folder, 8, Extraction(device="cpu", progress=False),
                               model_name="tiny", data_dir=data_dir)
    relation = detect_label_noise(found.features, found.probs, found.labels).scores
    loss = label_baseline_scores(found.features, found.probs, found.labels)["loss"]
    ap = {name: evaluate(scores.numpy(), found.is_noisy.numpy()).ap
          for name, scores in (("relation", relation), ("loss", loss))}
    print(f"AP: {ap}; by chance 0.1")
    assert min(ap.values()) > 0.8


@pytest.mark.fault
def test_killed_and_resumed(tmp_path, data_dir, texts, model_folder):
    """SIGKILL after the second epoch; the run that goes on ends where an untouched one ends."""
    noise.save_targets(texts.labels, torch.tensor([], dtype=torch.int64),
                         tmp_path / "cache/sst2" / noise.TARGET)
    command = [sys.executable, "language/train.py", "-t", "sst2", "--data_dir", data_dir,
               "--init", model_folder, "--cache_dir", tmp_path / "cache", "--epochs", "30",
               "--device", "cpu", "--warmup", "3", "--lr", "1e-3", "--max_length", "32"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    cut, whole = (tmp_path / "cache/sst2" / name for name in ("cut", "whole"))
    process = subprocess.Popen([*command, "-n", "cut"], cwd=ROOT, env=env)
    while not (cut / "epoch_2").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 2 <= len(list(cut.glob("epoch_*"))) < 30
    for name in ("cut", "whole"):
        subprocess.run([*command, "-n", name], cwd=ROOT, env=env, check=True)
    assert record(cut, 30) == record(whole, 30) and record(cut, 30)["step"] == 90
    torch.testing.assert_close(weights(cut, 30), weights(whole, 30), rtol=0, atol=0)
