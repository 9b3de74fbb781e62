import numpy as np
import pytest
import soundfile
import torch

from experiment.command.errors import InputError
from experiment.inputs.targets import read_targets
from speech import data, features, models, noise
from tests.conftest import ROOT


def sine(rate, seconds=0.5, pitch=440.0):
    return np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)


def test_filter_bank_is_kaldi_s():
    with np.load(ROOT / "tests/data/fbank.npz") as golden:
        front_end = models.new(classes=2, width=64, depth=1).front_end
        assert int(golden["sample_rate"]) == front_end.sampling_rate
        made = features.filter_bank(golden["waveform"][0], front_end)
        assert made.shape == (512, 128)
        np.testing.assert_allclose(made.numpy(), golden["fbank"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("rate, subtype, tolerance", [
    (16_000, "PCM_16", 1e-4), (16_000, "PCM_24", 1e-6), (16_000, "FLOAT", 1e-6),
    (8_000, "PCM_16", 1e-2), (44_100, "PCM_16", 1e-2)])
def test_any_rate_and_width_gives_the_same_wave(tmp_path, rate, subtype, tolerance):
    soundfile.write(tmp_path / "a.wav", sine(rate), rate, subtype)
    wave = data.read_wave(tmp_path / "a.wav", 16_000)
    assert wave.dtype == np.float32 and wave.shape == (8_000,)
    inner = slice(200, -200)  # resampling rings at the ends
    np.testing.assert_allclose(wave[inner], sine(16_000)[inner], atol=tolerance)


def test_stereo_is_mixed_down_and_said(tmp_path):
    left, right = sine(16_000), sine(16_000, pitch=1000)
    soundfile.write(tmp_path / "mono.wav", left, 16_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 16_000, "FLOAT")
    wave = data.read_wave(tmp_path / "stereo.wav", 16_000)
    np.testing.assert_allclose(wave, (left + right) / 2, atol=1e-6)
    assert data.mixing_notes([tmp_path / "mono.wav"]) == ()
    note, = data.mixing_notes([tmp_path / "mono.wav", tmp_path / "stereo.wav"])
    assert note == (f"1 of 2 clips have more than one channel, mixed down to one (the "
                    f"loudest where they cancel out); the first is {tmp_path / 'stereo.wav'}")


@pytest.mark.parametrize("shift", [0, 0.001])
def test_channels_in_opposite_phase_do_not_cancel_out(tmp_path, shift):
    left = sine(16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([0.5 * left, -left * (0.5 + shift)], 1), 16_000,
                    "FLOAT")
    wave = data.read_wave(tmp_path / "a.wav", 16_000)
    assert np.abs(wave).max() > 0.49
    soundfile.write(tmp_path / "a.wav", np.zeros((8_000, 2)), 16_000)
    assert not data.read_wave(tmp_path / "a.wav", 16_000).any()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("riff", [None, 0, 36, 0xFFFFFFFF])
def test_streamed_wav_is_as_long_as_it_is(tmp_path, riff, length, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(16_000), 16_000, subtype)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    for where, size in ((4, riff), (at, length)):
        if size is not None:
            content[where:where + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_allclose(data.read_wave(path, 16_000), sine(16_000), atol=1e-4)


def test_wav_without_sound_but_with_a_chunk_behind_it(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    path.write_bytes(path.read_bytes() + b"LIST" + (400).to_bytes(4, "little") + bytes(400))
    with pytest.raises(InputError, match="got 0 ms"):
        data.read_wave(path, 16_000)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_a_length_is_as_long_as_what_decodes(tmp_path, mode, tag):
    """libsndfile's own begin with a frame that tells the length; others' do not."""
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 16_000, 1, format="MP3", bitrate_mode=mode,
                             compression_level=0.5) as file:
        file.write(sine(16_000, seconds=2))
    whole = path.read_bytes()
    path.write_bytes(tag + whole[:len(whole) // 2])
    with pytest.raises(InputError, match="cut: it ends before the sound"):
        data.read_wave(path, 16_000)
    streamed = whole[whole.index(whole[:2], 4):]
    path.write_bytes(tag + streamed)
    assert abs(len(data.read_wave(path, 16_000)) - 32_000) < 3_000 or mode == "VARIABLE"
    for more in range(0, 300, 60):  # in the midst of a frame
        path.write_bytes(tag + streamed[:len(streamed) // 2 + more])
        assert len(data.read_wave(path, 16_000)) > 2_000


def no_bytes(path):
    path.write_bytes(b"")


def no_sound(path):
    soundfile.write(path, np.zeros(0), 16_000)


def text(path):
    path.write_text("dog,rooster,rain\n" * 40)


def cut_header(path):
    soundfile.write(path, sine(16_000), 16_000)
    path.write_bytes(path.read_bytes()[:20])


def too_short(path):
    soundfile.write(path, sine(16_000, seconds=0.02), 16_000)


def not_finite(path):
    soundfile.write(path, np.full(8_000, np.nan), 16_000, "FLOAT")


@pytest.mark.parametrize("write, line", [
    (no_bytes, "an empty file; expected WAV, FLAC, Ogg or MP3"),
    (no_sound, "expected at least 25 ms of sound, got 0 ms"),
    (text, "not a sound file that libsndfile can read"),
    (cut_header, "not a sound file that libsndfile can read"),
    (too_short, "expected at least 25 ms of sound, got 20 ms"),
    (not_finite, "expected finite samples, got NaN or infinity"),
    (lambda path: None, "no such file"),
])
def test_wrong_sound_is_named(tmp_path, write, line):
    path = tmp_path / "clip.wav"
    write(path)
    with pytest.raises(InputError) as refusal:
        data.read_wave(path, 16_000)
    assert str(refusal.value).startswith(f"{path}: {line}")


def test_table(clips):
    folder = clips(10)
    train, held_out = data.read_clips(folder), data.read_clips(folder, held_out=True)
    assert [path.name for path in train.files] == [f"{n}.wav" for n in (0, 1, 2, 5, 6, 7)]
    assert [path.name for path in held_out.files] == [f"{n}.wav" for n in (3, 4, 8, 9)]
    assert train.labels.tolist() == [0, 1, 2, 2, 0, 1]
    assert train.class_names == held_out.class_names == ("a", "b", "c")


def test_fold_and_category_are_optional(clips):
    table = data.read_clips(clips(4, fold=lambda row: None, category=lambda row: None))
    assert len(table) == 4 and table.class_names == ("0", "1", "2")


@pytest.mark.parametrize("changes, line", [
    ({"target": lambda row: row["category"]}, "line 2: target: expected a whole number from 0 "
                                              "to 9999, got 'a'"),
    ({"target": lambda row: -1}, "target: expected a whole number from 0 to 9999, got '-1'"),
    ({"target": lambda row: 10_000}, "from 0 to 9999, got '10000'"),
    ({"fold": lambda row: "x"}, "line 2: fold: expected a whole number from 0 to 9999, got 'x'"),
    ({"filename": lambda row: ""}, "line 2: filename: expected a name, got none"),
    ({"target": lambda row: None}, "missing column target; found filename, fold, category"),
    ({"filename": lambda row: "no.wav"}, "(6 of 6 are missing)"),
    ({"fold": lambda row: 1}, "expected rows of a fold other than 1, got none"),
])
def test_wrong_table_is_named(clips, changes, line):
    with pytest.raises(InputError) as refusal:
        data.read_clips(clips(10, **changes))
    assert line in str(refusal.value) and "esc50.csv" in str(refusal.value)


@pytest.mark.promise("memory")
def test_out_of_memory_halves_the_batch(monkeypatch, capsys):
    network = models.new(classes=3, frames=112, width=64, depth=1)
    batches = torch.randn(16, 112, 128).split(8)
    undisturbed, sizes = features.extract(network, batches, device="cpu"), []

    def short_of_memory(inputs):
        sizes.append(len(inputs))
        if len(inputs) > 3:
            torch.empty(2**50)  # DefaultCPUAllocator: can't allocate memory
        return network(inputs)
    short_of_memory.model = network.model
    found = features.extract(short_of_memory, batches, device="cpu")
    assert sizes == [8, 4] + [2] * 8
    assert "out of memory: 2 clips at a time from here on" in capsys.readouterr().out
    torch.testing.assert_close(found, undisturbed, rtol=1e-4, atol=1e-5)


def test_a_table_of_something_else(clips):
    folder = clips(4)
    (folder / "meta/esc50.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a readable table of comma-separated values in UTF-8"):
        data.read_clips(folder)


def test_one_class_leaves_nothing_to_change_to(tmp_path, clips):
    with pytest.raises(InputError, match="expected at least two classes"):
        noise.planted_labels(tmp_path, data.read_clips(clips(10, classes=1)), seed=0)


def test_no_table(tmp_path):
    with pytest.raises(InputError, match="meta/esc50.csv: no such file; expected a folder laid"):
        data.read_clips(tmp_path)


def test_noisy_labels_change_a_tenth_to_other_classes():
    labels = torch.arange(1600) % 50
    drawn = noise.noisy_labels(labels, 50, seed=3)
    wrong = (drawn["targets"] != labels).nonzero()[:, 0]
    assert torch.equal(wrong, drawn["idx_chg"]) and len(wrong) == 160
    assert drawn["targets"].min() >= 0 and drawn["targets"].max() < 50
    again, other = (noise.noisy_labels(labels, 50, seed=seed)["targets"] for seed in (3, 4))
    assert torch.equal(again, drawn["targets"]) and not torch.equal(other, again)


def test_planted_labels_are_drawn_once(tmp_path, clips):
    table = data.read_clips(clips(20))
    labels = noise.planted_labels(tmp_path, table, seed=0)
    assert torch.equal(noise.planted_labels(tmp_path, table, seed=1), labels)
    _, given, is_noisy = read_targets(tmp_path / "target_noisy0.1.pt")
    assert torch.equal(given, labels) and torch.equal(is_noisy, given != table.labels)
    assert is_noisy.sum() == 1


@pytest.mark.parametrize("content, line", [
    ([1, 2], "expected a dict with targets and idx_chg, got ['list']"),
    ({"targets": torch.tensor([0, 1])}, "expected a dict with targets and idx_chg, got ['targets"),
    ({"targets": ["dog", "cat"], "idx_chg": [0]}, "targets: expected integers"),
    ({"targets": torch.ones(2), "idx_chg": [0]}, "targets: expected a list of integers, got "
                                                 "torch.float32 of shape (2,)"),
    ({"targets": [0, 1], "idx_chg": [2]}, "idx_chg: expected positions from 0 to 1, got 2 to 2"),
])
def test_wrong_targets_are_named(tmp_path, content, line):
    torch.save(content, tmp_path / "t.pt")
    with pytest.raises(InputError) as refusal:
        read_targets(tmp_path / "t.pt")
    assert line in str(refusal.value)


def test_targets_may_be_lists_and_arrays(tmp_path):
    torch.save({"targets": [2, 0, 1], "idx_chg": np.array([1])}, tmp_path / "t.pt")
    _, labels, is_noisy = read_targets(tmp_path / "t.pt")
    assert labels.tolist() == [2, 0, 1] and is_noisy.tolist() == [False, True, False]
    torch.save({"targets": [2, 0, 1], "idx_chg": []}, tmp_path / "t.pt")
    assert not read_targets(tmp_path / "t.pt").is_noisy.any()
