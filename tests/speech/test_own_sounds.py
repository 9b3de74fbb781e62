"""speech/detect.py --csv: files of sounds with planted errors and what folders hold."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from transformers import ASTModel

from experiment.inputs.extraction import Extraction
from experiment.inputs.own_data import files_of_table
from speech import models, own
from tests.speech.conftest import RATE, randomised

N, CLASSES = 60, ("hum", "hiss", "whistle")
WRONG = {4, 17, 33, 50}
QUIET = Extraction(batch_size=16, progress=False)


@pytest.fixture
def sounds(tmp_path):
    """A table of 60 clips of 0.4 s in three classes, four of them with a wrong one."""
    draw = np.random.default_rng(0)
    time = np.arange(int(0.4 * RATE)) / RATE
    rows = []
    for row in range(N):
        tone = np.sin(2 * np.pi * (200, 0, 3000)[row % 3] * draw.uniform(0.95, 1.05) * time) / 3
        noise = draw.standard_normal(len(time)) * (0.01, 0.2, 0.01)[row % 3]
        (tmp_path / "clips").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"clips/{row}.wav", tone + noise, RATE)
        rows.append((f"clips/{row}.wav", CLASSES[(row + (row in WRONG)) % 3]))
    return write_table(tmp_path / "sounds.csv", rows)


def write_table(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def add(table, *rows):
    with open(table, "a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def report(folder):
    with open(folder / "suspects.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def detect(script, tmp_path, table, *words, **kwargs):
    return script("speech/detect.py", "--csv", table, *words, "--cache_dir", tmp_path / "results",
                  "--verbose", "False", **kwargs).stdout


def test_table_with_what_folders_hold(script, tmp_path, sounds, ast_folder):
    """The planted errors rank first, and what cannot be used is named."""
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "hanging.wav", np.full(RATE, 0.3), RATE)  # nothing to hear either
    soundfile.write(tmp_path / "stereo.flac", np.random.default_rng(1).normal(0, 0.2, (8000, 2)),
                    RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    soundfile.write(tmp_path / "short.wav", np.ones(10), RATE)
    add(sounds, *((f"{name}.wav", "hum") for name in ("silence", "hanging", "broken", "short",
                                                      "gone")),
        ("stereo.flac", "hiss"), ("clips/1.wav", "his"), ("clips/2.wav", ""))
    shown = detect(script, tmp_path, sounds, "-n", ast_folder)
    rows, metrics = report(tmp_path / "results/sounds/report")
    page = (tmp_path / "results/sounds/report/report.html").read_text(encoding="utf-8")
    assert "data:audio/" in page
    found = [int(row["index"]) for row in rows]
    assert WRONG | {66} == set(found[:5]) and len(rows) == N + 2
    assert all(row["filepath"] == str(tmp_path / row["id"]) for row in rows)
    assert {row["index"] for row in metrics["left_out"]} == {60, 61, 62, 63, 64, 67}
    reasons = {row["name"]: row["reason"] for row in metrics["left_out"]}
    assert reasons["silence.wav"] == "2 s of silence"
    assert reasons["gone.wav"] == "no such file" and reasons["clips/2.wav"] == "no label"
    assert "not a sound file" in reasons["broken.wav"] and "25 ms" in reasons["short.wav"]
    for line in ("6 of 68 rows are left out (row 60, silence.wav: 2 s of silence; row 61, ",
                 "1 of 62 clips have more than one channel", "suspect: his (row 66, clips/1.wav)",
                 "5-fold cross-validated (the network's head has 3 classes, the data have 4)"):
        assert line in shown, line


def test_features_are_kept_while_they_fit(script, tmp_path, sounds, ast_folder, monkeypatch):
    detect(script, tmp_path, sounds, "-n", ast_folder)
    asked = []
    load = models.load_backbone
    monkeypatch.setattr(models, "load_backbone",
                        lambda source: asked.append(source) or load(source))
    detect(script, tmp_path, sounds, "-n", ast_folder)
    assert not asked
    soundfile.write(tmp_path / "clips/0.wav", np.random.default_rng(0).normal(0, 0.1, 6400), RATE)
    detect(script, tmp_path, sounds, "-n", ast_folder)
    network = models.load_folder(ast_folder)
    randomised(network).model.save_pretrained(ast_folder)
    detect(script, tmp_path, sounds, "-n", ast_folder)
    assert asked == [str(ast_folder)] * 2


@pytest.mark.parametrize("kind", ["folder", "published", "headless"])
def test_any_ast(tmp_path, sounds, network, ast_folder, kind):
    source = {"folder": ast_folder, "published": tmp_path / "published.pth",
              "headless": tmp_path / "bare"}[kind]
    if kind == "published":
        torch.save(models.to_published(network.model), source)
    if kind == "headless":
        network.model.classifier.layernorm.reset_parameters()
        body = network.model.audio_spectrogram_transformer
        assert isinstance(body, ASTModel)
        body.save_pretrained(source)
        network.front_end.save_pretrained(source)
    files, rows = files_of_table(sounds)
    samples = own.load(files, rows, tmp_path / "results", str(source), QUIET)
    with torch.inference_mode():
        wave = own.data.read_wave(files[9], RATE)
        from speech.features import filter_bank

        feature, logits = network(filter_bank(wave, network.front_end)[None])
    torch.testing.assert_close(samples.features[9], feature[0], atol=1e-4, rtol=0)
    assert models.load_backbone(str(source))[1] == (kind != "headless")
    assert samples.media(9).kind == "sound" and samples.ids[9] == "clips/9.wav"
    said = {"headless": "no head of its own"}.get(kind, "3 classes too, but reproduces")
    assert said in samples.notes[0]


def test_an_ast_for_these_classes_is_asked_itself(tmp_path, sounds, network):
    network.model.config.id2label = dict(enumerate(("hiss", "hum", "whistle")))
    network.model.save_pretrained(tmp_path / "mine")
    network.front_end.save_pretrained(tmp_path / "mine")
    samples = own.load(*files_of_table(sounds), tmp_path / "results", str(tmp_path / "mine"), QUIET)
    assert samples.class_names == ("hiss", "hum", "whistle") and not samples.out_of_sample
    assert samples.labels[:4].tolist() == [1, 0, 2, 1]


@pytest.mark.parametrize("words, message", [
    (["--csv", "nowhere.csv"], "nowhere.csv: no such file"),
    (["--csv", "sounds.csv", "--data_dir", "."], "--csv and --data_dir: two sources of data"),
    (["--csv", "sounds.csv", "-n", "."], ".: no config.json; expected the folder of an AST"),
    (["--csv", "sounds.csv", "-n", "empty.pth"], "empty.pth: not a readable tensor file"),
    (["--csv", "silent.csv", "-n", "my_ast"], "silent.csv: none of 2 rows can be used: row 0, "
                                              "silence.wav: 2 s of silence"),
    (["--path_column", "clip"], "--path_column: goes with --csv only"),
    (["--csv", "sounds.csv", "--label_column", "tone"], "sounds.csv: no column tone; found path, "
                                                        "label"),
    (["--csv", "one.csv", "-n", "my_ast"], "one.csv: expected at least two classes"),
])
def test_wrong_words_get_one_line(refused, tmp_path, sounds, ast_folder, words, message):
    (tmp_path / "empty.pth").touch()
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    write_table(tmp_path / "silent.csv", [("silence.wav", "a"), ("silence.wav", "b")])
    write_table(tmp_path / "one.csv", [("clips/1.wav", "a"), ("clips/2.wav", "a")])
    line = refused("speech/detect.py", *words, "--cache_dir", tmp_path / "results", cwd=tmp_path)
    assert message in line
    assert not list(tmp_path.rglob("report"))


def test_an_ast_that_the_hub_does_not_give(script, tmp_path, sounds, monkeypatch):
    def offline(source, **how):
        raise OSError(f"We couldn't connect for {source}\nsecond line")
    monkeypatch.setattr(models.AutoConfig, "from_pretrained", offline)
    done = script("speech/detect.py", "--csv", sounds, "--cache_dir", tmp_path / "results",
                  check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "-n MIT/ast-finetuned-audioset-10-10-0.4593: no such folder or file, and the hub does " \
        "not give an AST of that name" in done.stderr
