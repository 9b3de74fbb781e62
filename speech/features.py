"""What a network gives for each clip: filter banks in, features and logits out.

N clips, T frames, B bins, D feature width, C classes.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import ASTFeatureExtractor

from speech import data
from speech.models import Network


def filter_bank(wave: np.ndarray, front_end: ASTFeatureExtractor) -> Tensor:
    """The model's input (T, B) for one waveform (S,) at the front end's rate.

    Kaldi's log-mel filter bank of the waveform minus its mean, padded with zeros or cut to T
    frames, then (x - mean) / (2 std).
    """
    made = front_end(wave - wave.mean(), sampling_rate=front_end.sampling_rate)
    return torch.from_numpy(made["input_values"][0])


def filter_banks(files: Sequence[Path], front_end: ASTFeatureExtractor, *, batch_size: int,
                 progress: bool) -> Iterator[Tensor]:
    """Model inputs (batch_size, T, B) of sound files, read as they are asked for."""
    with tqdm(total=len(files), desc="clips", delay=1, disable=not progress, leave=False) as bar:
        for start in range(0, len(files), batch_size):
            waves = [data.read_wave(path, front_end.sampling_rate)
                     for path in files[start:start + batch_size]]
            yield torch.stack([filter_bank(wave, front_end) for wave in waves])
            bar.update(len(waves))


@torch.inference_mode()
def extract(network: Network, batches: Iterable[Tensor], *, device: torch.device | str
            ) -> dict[str, Tensor]:
    """`feat` (N, D) and `logit` (N, C) of model inputs, as the published feature files hold them.

    In memory: the network, one batch's activations, and what is returned.
    """
    network.model.to(device).eval()
    features, logits = [], []
    for batch in batches:
        feature, logit = network(batch.to(device))
        features.append(feature.cpu())
        logits.append(logit.cpu())
    return {"feat": torch.cat(features), "logit": torch.cat(logits)}
