"""One data set, many settings: how well the relation score finds the wrong labels under each."""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import relation
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.run.settings import Settings
from experiment.run.steps import on_device

PUBLISHED = {"kernel": "cos_p", "dtype": "float32", "temperature": 4}  # images and texts


def sweep(samples: Samples, grid: Iterable[Settings]) -> Iterator[dict[str, Any]]:
    """Kernel, dtype and temperature of each setting, metrics of its relation score, the number of
    rows whose labels refinement took to be wrong, and seconds.

    The score is that after refinement, as `detect_label_noise` gives it. Settings of one dtype
    that follow each other share what is stored on the device. Raises InputError where the wrong
    labels are not known, or no row or every row is wrong.
    """
    for _, settings in groupby(grid, key=lambda each: (each.dtype, each.device, each.hop)):
        settings = list(settings)
        kept = samples.every(settings[0].hop)
        wrong = None if kept.is_noisy is None else int(kept.is_noisy.sum())
        if wrong in (None, 0, len(kept)):
            known = "no is_noisy" if wrong is None else f"{wrong} wrong of {len(kept)}"
            raise InputError(f"{samples.source}: expected some labels known to be wrong and others "
                             f"to be right, got {known}")
        features, probs, _ = on_device(kept, settings[0])
        labels = kept.labels.to(features.device)
        for each in settings:
            started = time.perf_counter()
            found = relation.detect_label_noise(
                features, probs, labels, kernel=each.kernel, temperature=each.temperature,
                threshold=each.threshold, chunk=each.chunk, engine=each.engine,
                noise_threshold=each.noise_threshold, n_iter=each.n_iter)
            scores = found.scores.cpu().numpy()
            seconds = time.perf_counter() - started
            yield {"kernel": each.kernel, "dtype": each.dtype, "temperature": each.temperature,
                   **relation.evaluate(scores, kept.is_noisy.numpy())._asdict(),
                   "estimated_noise": int(found.estimated_noise.sum()),
                   "seconds": round(seconds, 3)}


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the largest average precision as printed, of equal ones the first."""
    return max(rows, key=lambda row: round(row["ap"], 3))


def published_of(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the paper's setting, if it was tried."""
    return next((row for row in rows if PUBLISHED.items() <= row.items()), None)
