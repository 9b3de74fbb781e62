"""The user's own sounds: a table of paths and labels, and any AST.

Features are the inputs of the network's last layer, whatever classes it was trained for. They are
cached and recomputed when files or weights change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.own_data import Rows, labelled_samples, stamps_of
from experiment.inputs.own_head import OwnHead
from experiment.inputs.samples import Samples
from speech import AUDIOSET_MODEL, data, features

SILENCE = 1e-4  # of full scale, -80 dB: below it there is nothing to label


def load(files: Sequence[Path], rows: Rows, folder: Path, name: str | None, extraction: Extraction
         ) -> Samples:
    """Samples of labelled clips, by the AST `name`; features are cached in `folder`."""
    source = name or AUDIOSET_MODEL
    kept = [files[row] for row in rows.index]
    weights = Path(source).resolve() if Path(source).exists() else None
    parts = [] if weights is None else [weights, *sorted(weights.glob("*"))]
    origin = {"weights": source if weights is None else stamps_of(parts), "clips": stamps_of(kept)}
    name = writing.distinct((weights or Path(source)).stem, Path(rows.source).absolute(), weights)
    path = folder / "features" / f"feat_{name}.pt"
    content = writing.cached(path, origin, partial(_extract, source, files, rows, extraction))
    rows = rows.drop(content["problems"])
    mixed = data.mixing_notes([files[row] for row in rows.index])
    rows = replace(rows, notes=(*rows.notes, *mixed))
    own = None if "logit" not in content else OwnHead(content["logit"], content["class_names"])
    return labelled_samples(
        rows, content["feat"], own, progress=extraction.progress,
        content={"filepath": [str(files[row]) for row in rows.index]},
        media=partial(_sound, files))


def _extract(source: str, files: Sequence[Path], rows: Rows, extraction: Extraction) -> dict:
    """feat (n, D) of the usable clips, the problems of the others by row number, and, for a trained
    head, logit (n, C) and class_names."""
    from speech import models  # transformers takes seconds to import

    device = find_device(extraction.device)
    network, has_head = models.load_backbone(source)
    problems: dict[int, str] = {}
    banks = _banks(files, rows, network.front_end, extraction, problems)
    first = next(banks, None)
    if first is None:
        rows.drop(problems)  # raises InputError, as none is left
    found = features.extract(network, chain([first], banks), device=device)
    head = {"logit": found["logit"], "class_names": models.class_names(network)} if has_head else {}
    return {"feat": found["feat"], "problems": problems} | head


def _banks(files: Sequence[Path], rows: Rows, front_end, extraction: Extraction,
           problems: dict[int, str]) -> Iterator[Tensor]:
    """Model inputs (B, T, bins) of the clips in turn; unusable clips are added to `problems`."""
    batch = []
    for row in tqdm(rows.index, "clips", delay=1, disable=not extraction.progress, leave=False):
        try:
            wave = _wave(files[row], front_end.sampling_rate)
            batch.append(features.filter_bank(wave, front_end))
        except InputError as error:
            problems[row] = str(error).removeprefix(f"{files[row]}: ")
        if len(batch) == extraction.batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _wave(path: Path, rate: int) -> np.ndarray:
    """`data.read_wave`, with InputError for silence, too."""
    wave = data.read_wave(path, rate)
    if np.abs(wave - wave.mean()).max() < SILENCE:
        raise InputError(f"{path}: {len(wave) / rate:.3g} s of silence")
    return wave


def _sound(files: Sequence[Path], row: int) -> media.Media:
    return media.sound(data.read_wave(files[row], media.RATE), media.RATE)
