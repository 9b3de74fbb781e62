"""From Samples to scores and metrics: the label-error pipeline, written once for every domain."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import relation
from experiment.arguments import RelationSettings
from experiment.device import find_device
from experiment.graph import Graph
from experiment.samples import BLOCK, Samples


@dataclass(frozen=True)
class Result:
    """What a pipeline hands to the report. All tensors on the CPU, over the kept rows."""

    samples: Samples  # the kept rows
    relation_score: Tensor  # (N,) higher = more suspicious
    columns: dict[str, Tensor]  # printed name -> further scores (N,)
    truth: str | None  # "is_noisy" or "is_ood", where known
    metrics: list[dict]  # name, group, auroc, ap, tnr95, fpr95
    fingerprint: str
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)  # lines for the screen
    further: dict[str, Any] = field(default_factory=dict)  # more entries of metrics.json

    @property
    def words(self) -> tuple[str, str]:
        """What to call a negative and a positive row; outliers are looked for without labels."""
        return ("ID", "OOD") if self.samples.labels is None else ("clean", "wrong")


def find_label_errors(samples: Samples, settings: RelationSettings, *, noise_threshold: float,
                      n_iter: int, progress: bool, graph: Graph | None = None) -> Result:
    """Baselines on the features as they come, then relation before and after refinement.

    `graph` is where the scores before refinement are found, or kept for the next run.
    Metrics where the truth is known and holds both classes; a note says why there are none.
    """
    clock = Clock()
    fingerprint = fingerprint_of(samples)
    clock.lap("fingerprint")
    baselines = relation.label_baseline_scores(samples.features, samples.probs, samples.labels)
    kept = samples.every(settings.hop)
    columns = {name: scores[kept.index] for name, scores in baselines.items()
               if scores.isfinite().all()}
    clock.lap("baselines")

    features, probs, notes = on_device(kept, settings)
    notes += [f"{name} is left out: it overflows on these features"
              for name in baselines if name not in columns]
    labels = kept.labels.to(features.device)
    how = dict(kernel=settings.kernel, temperature=settings.temperature,
               threshold=settings.threshold, chunk=settings.chunk, engine=settings.engine,
               progress=progress)
    initial = None if graph is None else graph.load(len(kept), fingerprint, settings)
    if initial is not None:
        notes.append(f"relation scores before refinement are taken from {graph.path}")
        initial = initial.to(features.device)
    else:
        initial = relation.relation_scores(features, probs, labels, **how)
        if graph is not None and (problem := graph.save(initial, fingerprint, settings)):
            notes.append(problem)
    found = relation.detect_label_noise(features, probs, labels, noise_threshold=noise_threshold,
                                        n_iter=n_iter, initial=initial, **how)
    columns["relation (initial)"] = -relation.relative(initial).cpu()
    clock.lap("relation")

    score = found.scores.cpu()
    if n_iter > 1 and not found.estimated_noise.any():
        notes.append(f"no row is below -{noise_threshold} of the largest score: there was nothing "
                     f"to refine by, and both relation rows are the same")
    if not score.any():
        notes.append(f"no relation is above the threshold {settings.threshold}: every relation "
                     f"score is 0; try a smaller --thres")
    metrics, why_not = evaluate_all({**columns, "relation": score}, kept.is_noisy, "noisy")
    clock.lap("metrics")
    return Result(kept, score, columns, None if kept.is_noisy is None else "is_noisy", metrics,
                  fingerprint, clock.laps, [*samples.notes, *notes, *why_not])


def evaluate_all(scores: dict[str, Tensor], is_positive: Tensor | None, positive: str,
                 group: str = "all") -> tuple[list[dict], list[str]]:
    """A row of metrics per score, and the notes that say what could not be evaluated."""
    if is_positive is None:
        return [], []
    if is_positive.all() or not is_positive.any():
        undefined = dict.fromkeys(relation.Metrics._fields)
        which = "every row is" if is_positive.all() else "no row is"
        return ([{"name": name, "group": group, **undefined} for name in scores],
                [f"{which} {positive} ({group}): AUROC, AP, TNR95 and FPR95 are not defined"])
    return [{"name": name, "group": group,
             **relation.evaluate(values.numpy(), is_positive.numpy())._asdict()}
            for name, values in scores.items()], []


def on_device(samples: Samples, settings: RelationSettings) -> tuple[Tensor, Tensor, list[str]]:
    """Features and probabilities as stored for the relation, and notes on odd rows.

    Half precision stores unit features, so that large ones do not overflow; float32 is handed on
    as it is, and may stay memory-mapped.
    """
    device, dtype = find_device(settings.device), getattr(torch, settings.dtype)
    zeros = sum(int((~block.any(1)).sum()) for block in samples.features.split(BLOCK))
    notes = [f"{zeros} of {len(samples)} rows have a feature of zeros and relate to nothing "
             f"({samples.source})"] if zeros else []
    features = samples.features
    if dtype != torch.float32:
        features = torch.cat([relation.unit_rows(block).to(dtype)
                              for block in features.split(BLOCK)])
    return features.to(device), samples.probs.to(device, dtype), notes


def fingerprint_of(samples: Samples) -> str:
    """SHA-256 over features, probabilities and labels with their kinds and shapes."""
    digest = hashlib.sha256()
    for name in ("features", "probs", "labels"):
        tensor = getattr(samples, name)
        if tensor is not None:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for block in tensor.split(BLOCK):
                digest.update(block.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


class Clock:
    """Seconds between laps, for metrics.json."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
