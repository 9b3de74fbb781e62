import argparse
import io
import shutil

import numpy as np
import pytest
import soundfile
import torch

from experiment.command.errors import InputError
from experiment.command.option_types import folder_name
from experiment.inputs.extraction import Extraction
from speech import features, models
from speech.samples import load_train, task_folder

QUIET = Extraction(batch_size=4, progress=False, device="cpu")


def write_targets(folder, labels, changed=(1,)):
    folder.mkdir(exist_ok=True)
    torch.save({"targets": torch.tensor(labels), "idx_chg": torch.tensor(changed)},
               folder / "target_noisy0.1.pt")


@pytest.fixture
def published(tmp_path):
    """The two files that detection needs, as they are published: 1,600 rows, 50 classes."""
    generator = torch.Generator().manual_seed(0)
    stored = {"feat": torch.randn(1600, 768, generator=generator),
              "logit": torch.randn(1600, 50, generator=generator)}
    torch.save(stored, tmp_path / "feat_train_25.pt")
    write_targets(tmp_path, [row % 50 for row in range(1600)], range(0, 1600, 10))
    return tmp_path, stored


def test_published_files(published):
    folder, stored = published
    samples = load_train(folder, 25)
    assert torch.equal(samples.features, stored["feat"])
    torch.testing.assert_close(samples.probs, torch.softmax(stored["logit"], 1))
    assert samples.labels.tolist() == [row % 50 for row in range(1600)]
    assert samples.is_noisy.nonzero()[:, 0].tolist() == list(range(0, 1600, 10))
    assert samples.ids is None and samples.class_names is None and samples.media is None


def test_missing_features_are_extracted_and_kept(folder, clips, network):
    write_targets(folder, [0, 1, 2, 2, 0, 1])
    clip_folder = clips(10)
    samples = load_train(folder, 25, QUIET, data_dir=clip_folder)
    files = [clip_folder / f"audio/{n}.wav" for n in (0, 1, 2, 5, 6, 7)]
    banks = features.filter_banks(files, network.front_end, batch_size=6, progress=False)
    expected = features.extract(network, banks, device="cpu")
    torch.testing.assert_close(samples.features, expected["feat"], atol=1e-5, rtol=0)
    torch.testing.assert_close(samples.logits, expected["logit"], atol=1e-5, rtol=0)
    assert samples.ids == [path.name for path in files] and samples.class_names == ("a", "b", "c")
    wave, rate = soundfile.read(io.BytesIO(samples.media(3).content))  # 5.wav: of class 2
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() * rate / len(wave) - 1500) < 10
    shutil.rmtree(clip_folder)
    assert torch.equal(load_train(folder, 25, QUIET).features, samples.features)


def test_labels_without_a_file_of_targets_are_as_given(folder, clips):
    samples = load_train(folder, 25, QUIET, data_dir=clips(10))
    assert samples.labels.tolist() == [0, 1, 2, 2, 0, 1] and samples.is_noisy is None
    with pytest.raises(InputError, match="target_noisy0.1.pt: no such file"):
        load_train(folder, 25, QUIET)


def test_folder_of_an_ast_and_when_its_features_are_made_again(tmp_path, folder, clips, ast_folder):
    clip_folder = clips(10)
    samples = load_train(folder, 25, QUIET, data_dir=clip_folder, model_folder=ast_folder)
    own = load_train(folder, 25, QUIET, data_dir=clip_folder)
    # The same weights, but transformers' own epsilon of 1e-5 in the head is not saved.
    torch.testing.assert_close(samples.features, own.features, atol=1e-3, rtol=0)
    kept = folder / "my_ast/feat_train.pt"
    before = kept.stat().st_mtime_ns
    load_train(folder, 25, QUIET, data_dir=clip_folder, model_folder=ast_folder)
    assert kept.stat().st_mtime_ns == before
    other = models.new(classes=3, frames=32, width=64, depth=1)
    other.model.save_pretrained(ast_folder)
    again = load_train(folder, 25, QUIET, data_dir=clip_folder, model_folder=ast_folder)
    assert not torch.allclose(again.features, samples.features, atol=1e-2)


@pytest.mark.promise("caches")
def test_extracted_features_are_made_again_when_clips_or_network_change(folder, clips, network):
    clip_folder = clips(10)
    kept = folder / "feat_train_25.pt"
    first = load_train(folder, 25, QUIET, data_dir=clip_folder)
    before = kept.stat().st_mtime_ns
    load_train(folder, 25, QUIET, data_dir=clip_folder)
    assert kept.stat().st_mtime_ns == before
    torch.manual_seed(5)
    other = models.new(classes=3, frames=32, width=64, depth=1)
    torch.save(models.to_published(other.model), folder / "audio_model_epoch25.pth")
    again = load_train(folder, 25, QUIET, data_dir=clip_folder)
    assert not torch.allclose(again.features, first.features, atol=1e-2)
    kept.with_suffix(".json").write_text("[" * 100_000)  # a damaged stamp matches nothing
    before = kept.stat().st_mtime_ns
    load_train(folder, 25, QUIET, data_dir=clip_folder)
    assert kept.stat().st_mtime_ns > before


@pytest.mark.promise("caches")
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_a_damaged_stamp_matches_nothing(folder, clips, ast_folder, text):
    clip_folder = clips(10)
    load_train(folder, 25, QUIET, data_dir=clip_folder, model_folder=ast_folder)
    kept = folder / "my_ast/feat_train.pt"
    kept.with_suffix(".json").write_text(text)
    before = kept.stat().st_mtime_ns
    load_train(folder, 25, QUIET, data_dir=clip_folder, model_folder=ast_folder)
    assert kept.stat().st_mtime_ns > before


def test_a_model_of_other_classes_is_noted(folder, clips):
    samples = load_train(folder, 25, QUIET, data_dir=clips(10, classes=2))
    assert samples.class_names is None
    assert "the model has 3 classes" in samples.notes[0]


def test_an_epoch_that_does_not_exist(published, folder):
    path, _ = published
    torch.save({}, path / "audio_model_epoch5.pth")
    with pytest.raises(InputError) as refusal:
        load_train(path, 7)
    assert str(refusal.value) == (f"{path}: neither feat_train_7.pt nor audio_model_epoch7.pth; "
                                  f"there are epochs 5, 25")


@pytest.mark.parametrize("change, line", [
    (lambda folder: (folder / "feat_train_25.pt").unlink(),
     "fetch or make them with speech/download.py or speech/train.py"),
    (lambda folder: (folder / "feat_train_25.pt").rename(folder / "audio_model_epoch25.pth"),
     "to extract it with audio_model_epoch25.pth name the folder of the clips by --data_dir"),
    (lambda folder: torch.save({"feat_cls": torch.ones(3, 2)}, folder / "feat_train_25.pt"),
     "expected a dict with tensors feat (N, D) and logit (N, C), got ['feat_cls']"),
    (lambda folder: (folder / "feat_train_25.pt").write_text("no"), "not a readable tensor file"),
    (lambda folder: write_targets(folder, [0, 1, 2]), "labels: expected shape (1600,)"),
    (lambda folder: write_targets(folder, [50] * 1600), "labels: expected 0 to 49, got 50 in row"),
])
def test_wrong_files_are_named(published, change, line):
    change(published[0])
    with pytest.raises(InputError) as refusal:
        load_train(published[0], 25)
    assert line in str(refusal.value) and "\n" not in str(refusal.value)


def test_targets_of_other_clips(folder, clips):
    write_targets(folder, [0, 1, 2])
    with pytest.raises(InputError, match="expected a label for each of the 6 training clips of"):
        load_train(folder, 25, QUIET, data_dir=clips(10))


def test_an_ast_folder_needs_clips(published, ast_folder):
    with pytest.raises(InputError, match="name the folder of the clips by --data_dir"):
        load_train(published[0], 25, QUIET, model_folder=ast_folder)


def test_task_folder(tmp_path):
    assert task_folder(tmp_path, "esc50") == tmp_path
    assert task_folder(tmp_path, "demo") == tmp_path / "demo"
    with pytest.raises(argparse.ArgumentTypeError, match="expected letters, .* got '../x'"):
        folder_name("../x")
