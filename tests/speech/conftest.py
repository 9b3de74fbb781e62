"""Sound files and networks small enough to make in a test."""

import csv

import numpy as np
import pytest
import soundfile
import torch

from speech import models

RATE = 16_000


@pytest.fixture
def clips(tmp_path):
    """A function that writes clips of 0.3 s in ESC-50's layout, two in five held out."""
    def write(n=10, classes=3, folder=tmp_path / "clips", **changes):
        draw = np.random.default_rng(0)
        (folder / "audio").mkdir(parents=True)
        (folder / "meta").mkdir()
        rows = []
        for number in range(n):
            row = {"filename": f"{number}.wav", "fold": 1 if number % 5 > 2 else 2,
                   "target": number % classes, "category": "abc"[number % classes]}
            time = np.arange(int(0.3 * RATE)) / RATE
            wave = np.sin(2 * np.pi * 500 * (1 + row["target"]) * time) / 4
            soundfile.write(folder / "audio" / row["filename"],
                            wave + draw.standard_normal(len(time)) / 100, RATE)
            rows.append(row | {key: change(row) for key, change in changes.items()})
        with open(folder / "meta/esc50.csv", "w", newline="") as file:
            table = csv.DictWriter(file, [key for key in rows[0] if rows[0][key] is not None],
                                   extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)
        return folder
    return write


@pytest.fixture
def network():
    """An AST of one block and one head for inputs of 32 frames, its weights all random."""
    torch.manual_seed(0)
    return randomised(models.new(classes=3, frames=32, width=64, depth=1))


@pytest.fixture
def folder(tmp_path, network):
    """A task's folder with the network as audio_model_epoch25.pth; no features."""
    folder = tmp_path / "results"
    folder.mkdir()
    torch.save(models.to_published(network.model), folder / "audio_model_epoch25.pth")
    return folder


@pytest.fixture
def ast_folder(tmp_path, network):
    """The same network as Hugging Face saves it."""
    folder = tmp_path / "my_ast"
    network.model.save_pretrained(folder)
    network.front_end.save_pretrained(folder)
    return folder


def randomised(network):
    """Weights that leave no tensor at zero or one, where a wrong mapping would not show."""
    with torch.no_grad():
        for tensor in network.model.parameters():
            tensor += 0.1 * torch.randn(tensor.shape) * (1 if tensor.ndim == 1 else 0.2)
    return network
