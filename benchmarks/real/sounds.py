"""Recorded voices, encoded by Resemblyzer's network, which tells speakers apart."""

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import nn

from benchmarks.real.labelled import Labelled, chosen_rows, standardised
from benchmarks.real.packages import APT, apt_path, pip_folder

RATE, MELS, FRAMES = 16000, 40, 160  # Hz, bands, frames of 10 ms: what the encoder was trained on
WINDOW, STEP = 400, 160  # samples
SHORT = 0.8  # seconds of a prompt: longer ones are told apart without a mistake


def prompts(data: Path) -> Labelled:
    """What Asterisk says on the telephone, by language: a speaker each. The first SHORT seconds,
    in which little more than one word is said."""
    clips, names = [], []
    for package in (name for name in APT if name.startswith("asterisk-")):
        for path in sorted(apt_path(package).rglob("*.gsm")):
            if not {"digits", "silence"} & set(path.parts) and path.stat().st_size:
                clips.append(path)
                names.append(package.split("-")[3])
    return _voices(clips, names, seconds=SHORT)


def spoken_letters(data: Path) -> Labelled:
    """Letters and syllables read out for children by language (KLettres)."""
    folder = apt_path("klettres-data")
    clips = sorted(folder.rglob("*.ogg"))
    return _voices(clips, [path.relative_to(folder).parts[0] for path in clips])


def _voices(clips: list[Path], names: list[str], seconds: float = FRAMES * STEP / RATE
            ) -> Labelled:
    rows, labels, class_names = chosen_rows(names)
    spectra = np.stack([spectrum(clips[row], seconds) for row in rows])
    features = standardised(encode(spectra))
    return Labelled(features, features, labels, class_names)


def spectrum(path: Path, seconds: float) -> np.ndarray:
    """Mel power (FRAMES, MELS) float32 of the beginning of a clip, repeated where it is short."""
    raw = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": "GSM610"}
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True,
                                 **raw if path.suffix == ".gsm" else {})
    sound = soxr.resample(sound.mean(1), rate, RATE)
    loud = np.flatnonzero(np.abs(sound) > 0.05 * np.abs(sound).max(initial=1e-6))
    sound = sound[loud[0]:loud[-1] + 1] if len(loud) else sound
    sound = sound[:round(seconds * RATE)]
    sound = sound * (0.0316 / max(float(np.sqrt((sound ** 2).mean())), 1e-6))  # -30 dBFS
    sound = np.resize(sound, FRAMES * STEP)
    sound = np.pad(sound, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::STEP][:FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1])) ** 2
    return (power @ _filters()).astype(np.float32)


@cache
def _filters() -> np.ndarray:
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(WINDOW // 2 + 1, MELS, 0.0, RATE / 2, RATE, norm="slaney",
                           mel_scale="slaney")


@torch.inference_mode()
def encode(spectra: np.ndarray) -> np.ndarray:
    """The encoder's last linear layer, before its ReLU: (N, 256)."""
    lstm, linear = nn.LSTM(MELS, 256, 3, batch_first=True), nn.Linear(256, 256)
    weights = torch.load(pip_folder("resemblyzer") / "pretrained.pt", map_location="cpu",
                         weights_only=True)["model_state"]
    for name, layer in (("lstm", lstm), ("linear", linear)):
        layer.load_state_dict({key.removeprefix(f"{name}."): value
                               for key, value in weights.items() if key.startswith(f"{name}.")})
    last = [lstm(rows)[1][0][-1] for rows in torch.from_numpy(spectra).split(64)]
    return linear(torch.cat(last)).numpy()


SOUNDS = {"prompts": prompts, "spoken_letters": spoken_letters}
