"""Features and logits of clips, from filter banks, and the files that cache them.

feat_train*.pt is a dict: feat (N, D), logit (N, C). A file extracted here has a .json beside it,
which records its origin; one without, published or written by a training, is used as it is.
N clips, T frames, B bins, D feature width, C classes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from experiment.command import out_of_memory
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.extraction import Extraction
from speech import data
from speech.data import Clips

if TYPE_CHECKING:  # transformers takes seconds, and features that are there need none of it
    from transformers import ASTFeatureExtractor

    from speech.models import Network

Found = tuple[Path, dict[str, Tensor], list[str]]  # file, content, notes for the screen


def filter_bank(wave: np.ndarray, front_end: "ASTFeatureExtractor") -> Tensor:
    """The model's input (T, B) for one waveform (S,) at the front end's rate.

    Kaldi's log-mel filter bank of the waveform minus its mean, padded with zeros or cut to T
    frames, then (x - mean) / (2 std).
    """
    made = front_end(wave - wave.mean(), sampling_rate=front_end.sampling_rate)
    return torch.from_numpy(made["input_values"][0])


def filter_banks(files: Sequence[Path], front_end: "ASTFeatureExtractor", *, batch_size: int,
                 progress: bool) -> Iterator[Tensor]:
    """Model inputs (batch_size, T, B) of sound files, read batch by batch."""
    with tqdm(total=len(files), desc="clips", delay=1, disable=not progress, leave=False) as bar:
        for start in range(0, len(files), batch_size):
            waves = [data.read_wave(path, front_end.sampling_rate)
                     for path in files[start:start + batch_size]]
            yield torch.stack([filter_bank(wave, front_end) for wave in waves])
            bar.update(len(waves))


@torch.inference_mode()
def extract(network: "Network", batches: Iterable[Tensor], *, device: torch.device | str
            ) -> dict[str, Tensor]:
    """`feat` (N, D) and `logit` (N, C) of model inputs, as in the published feature files.

    In memory: the network, one batch's activations, and what is returned.
    """
    network.model.to(device).eval()
    found, size = [], None
    for batch in batches:
        def forward(size: int, batch: Tensor = batch) -> tuple[list[tuple[Tensor, ...]], int]:
            return [tuple(values.cpu() for values in network(part.to(device)))
                    for part in batch.split(size)], size
        parts, size = out_of_memory.extracting(forward, size or len(batch), "clip")
        found += parts
    features, logits = map(torch.cat, zip(*found))
    return {"feat": features, "logit": logits}


def of_epoch(folder: Path, epoch: int, clips: Clips | None, extraction: Extraction) -> Found:
    """feat_train_<epoch>.pt, extracted by audio_model_epoch<epoch>.pth if missing or outdated.

    Raises InputError if both are missing, or for extraction without clips.
    """
    path, checkpoint = folder / f"feat_train_{epoch}.pt", folder / f"audio_model_epoch{epoch}.pth"
    if not path.is_file() and not checkpoint.is_file():
        epochs = ", ".join(map(str, _epochs(folder)))
        raise InputError(f"{folder}: neither {path.name} nor {checkpoint.name}; "
                         + (f"there are epochs {epochs}" if epochs else
                            "fetch or make them with speech/download.py or speech/train.py"))
    if not path.is_file() and clips is None:
        raise InputError(f"{path}: no such file; to extract it with {checkpoint.name} name the "
                         f"folder of the clips by --data_dir")
    origin = {} if clips is None or not checkpoint.is_file() else _origin([checkpoint], clips)
    return _obtain(path, origin, checkpoint, clips, extraction, published=True)


def of_model(folder: Path, model: Path, clips: Clips | None, extraction: Extraction) -> Found:
    """Features of a Hugging Face AST in a folder, extracted again when it or the clips change."""
    if clips is None:
        raise InputError(f"{model}: to extract features with this model name the folder of the "
                         f"clips by --data_dir")
    path = folder / model.resolve().name / "feat_train.pt"
    origin = _origin(sorted(model.resolve().glob("*")), clips)
    return _obtain(path, origin, model, clips, extraction)


def _obtain(path: Path, origin: dict[str, str], model: Path, clips: Clips,
            extraction: Extraction, *, published: bool = False) -> Found:
    notes: list[str] = []

    def make() -> dict[str, Tensor]:
        from speech import models

        network = models.load_published(model) if model.is_file() else models.load_folder(model)
        banks = filter_banks(clips.files, network.front_end, progress=extraction.progress,
                             batch_size=extraction.batch_size)
        found = extract(network, banks, device=find_device(extraction.device))
        notes.extend(data.mixing_notes(clips.files))  # of files that could be read
        return found
    content = writing.cached(path, origin, make, read=_read, published=published)
    return path, content, notes


def _origin(model: Iterable[Path], clips: Clips) -> dict[str, str]:
    """The origin of features: names, sizes and modification times stand for contents, as in make.
    """
    def digest(paths: Iterable[Path]) -> str:
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    return {"model": digest(path.resolve() for path in model if path.is_file()),
            "clips": digest(path.resolve() for path in clips.files)}


def _read(path: Path) -> dict[str, Tensor]:
    content = reading.load(path)
    found = list(content) if isinstance(content, dict) else [type(content).__name__]
    for name in ("feat", "logit"):
        if name not in found or not isinstance(content[name], Tensor) or content[name].ndim != 2:
            raise InputError(f"{path}: expected a dict with tensors feat (N, D) and logit (N, C), "
                             f"got {found}")
    return content


def _epochs(folder: Path) -> list[int]:
    """Epochs with features or a checkpoint in the folder."""
    found = (re.fullmatch(r"(?:feat_train_|audio_model_epoch)(\d+)\.(?:pt|pth)", path.name)
             for path in folder.glob("*"))
    return sorted({int(match[1]) for match in found if match})
