"""The demo: synthetic sounds made by numpy, and a network small enough to train on them.

Nothing here was recorded. Ten kinds of sound, 100 clips of one second each, vary in pitch,
loudness, onset and background, and are written as ESC-50 is: five folds, the first held out.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy import ndarray as Array
from numpy.random import Generator

from experiment.files import writing
from speech import data, models, noise, training
from speech.recipe import Recipe

RATE = 16_000  # Hz
SECONDS = 1.0
PER_CLASS, FOLDS = 100, 5
FRAMES = 112  # of 10 ms: 10 time patches; one second has 98, the rest is padding
RECIPE = Recipe(learning_rate=1.5e-3, decay_after=15, batch_size=32, clips_per_pass=32,
                         frequency_mask=8, time_mask=8)


def whistle(time: Array, draw: Generator) -> Array:
    return np.sin(2 * np.pi * draw.uniform(1500, 2500) * time)


def buzz(time: Array, draw: Generator) -> Array:
    pitch = draw.uniform(80, 160)
    return sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))


def rising(time: Array, draw: Generator) -> Array:
    return _sweep(time, draw.uniform(300, 600), draw.uniform(3000, 5000))


def falling(time: Array, draw: Generator) -> Array:
    return _sweep(time, draw.uniform(3000, 5000), draw.uniform(300, 600))


def hiss(time: Array, draw: Generator) -> Array:
    return _noise(time, draw, corner=draw.uniform(3000, 6000))


def rumble(time: Array, draw: Generator) -> Array:
    return _noise(time, draw, corner=draw.uniform(50, 200))


def clicks(time: Array, draw: Generator) -> Array:
    phase = time * draw.uniform(4, 12) % 1
    return np.exp(-phase * draw.uniform(50, 150)) * draw.standard_normal(len(time))


def hoot(time: Array, draw: Generator) -> Array:
    swell = 1 + np.sin(2 * np.pi * draw.uniform(4, 12) * time)
    return swell * np.sin(2 * np.pi * draw.uniform(300, 600) * time)


def siren(time: Array, draw: Generator) -> Array:
    rate, depth = draw.uniform(2, 6), draw.uniform(0.3, 0.5)
    pitch = draw.uniform(700, 1200) * (1 + depth * np.sin(2 * np.pi * rate * time))
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE)


def bell(time: Array, draw: Generator) -> Array:
    pitch, decay = draw.uniform(500, 1000), draw.uniform(2, 5)
    return sum(np.exp(-decay * ratio * time) * np.sin(2 * np.pi * ratio * pitch * time)
               for ratio in (1, 2.76, 5.4))  # partials of a struck bar


SOUNDS: tuple[Callable[[Array, Generator], Array], ...] = (
    whistle, buzz, rising, falling, hiss, rumble, clicks, hoot, siren, bell)


def write_clips(folder: Path, *, per_class: int = PER_CLASS, seed: int = 0) -> None:
    """`per_class` clips of every sound, in ESC-50's layout, from the seed alone."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(per_class * len(SOUNDS)):
        target, fold = number % len(SOUNDS), number // len(SOUNDS) % FOLDS + 1
        name = f"{fold}-{number:06}-A-{target}.wav"
        with writing.replacing(folder / "audio" / name) as temporary:
            soundfile.write(temporary, clip(SOUNDS[target], draw), RATE, "PCM_16", format="WAV")
        rows.append((name, fold, target, SOUNDS[target].__name__))
    with writing.replacing(folder / "meta" / "esc50.csv") as temporary, \
            open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("filename", "fold", "target", "category"))
        table.writerows(rows)


def clip(sound: Callable[[Array, Generator], Array], draw: Generator) -> Array:
    """One sound that begins within the first 0.3 s, over background noise 15 to 30 dB below."""
    time = np.arange(int(RATE * SECONDS)) / RATE
    wave = sound(time, draw)
    wave = wave / np.sqrt(np.mean(wave ** 2))
    late = int(draw.uniform(0, 0.3) * RATE)
    wave = np.concatenate([np.zeros(late), wave[:len(wave) - late]])
    wave += draw.standard_normal(len(wave)) * 10 ** (-draw.uniform(15, 30) / 20)
    return wave / np.abs(wave).max() * draw.uniform(0.2, 0.9)


def build(folder: Path, *, progress: bool) -> None:
    """Clips, wrong labels, a trained network and its features: all that detection reads."""
    write_clips(folder / "data")
    clips = data.read_clips(folder / "data")
    labels = noise.planted_labels(folder, clips, seed=0)
    torch.manual_seed(0)
    network = models.new(classes=len(SOUNDS), frames=FRAMES, width=64, depth=2)
    training.fit(network, clips, labels, folder, RECIPE, device="cpu", progress=progress)


def _noise(time: Array, draw: Generator, corner: float) -> Array:
    """Noise whose amplitude falls with the frequency above `corner` Hz."""
    spectrum = np.fft.rfft(draw.standard_normal(len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / RATE)
    return np.fft.irfft(spectrum / (1 + frequency / corner), len(time))


def _sweep(time: Array, first: float, last: float) -> Array:
    return np.sin(2 * np.pi * (first * time + (last - first) / (2 * SECONDS) * time ** 2))
