"""From training and test Samples to outlier scores: the OOD pipeline, for every domain.

N test rows, M training rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

import relation
from experiment.command import out_of_memory, processes
from experiment.inputs.samples import Samples
from experiment.run import whole_set
from experiment.run.cache import PartialSums
from experiment.run.ood_baselines import Detector, Inputs
from experiment.run.result import Result
from experiment.run.settings import Settings
from experiment.run.steps import (
    Clock,
    check_pair,
    evaluate_groups,
    id_thresholds,
    on_device,
)
from relation.ood import EPS

KNN_NEIGHBOURS = 1000  # as published; divided by --hop, which thins the neighbours out
KNN_SHARE = 10  # of fewer training rows than that, the nearest tenth


def find_ood(train: Samples, test: Samples, settings: Settings, *,
             detectors: Mapping[str, Detector], progress: bool, folder: Path | None = None
             ) -> Result:
    """Baselines on the features as they come, the relation of test to training rows, and `auto`.

    `hop` keeps every hop-th training row for the relation, KNN and `auto`; the statistics of the
    other baselines are over all of them. A baseline whose needs the data do not meet is left out,
    with a note. Metrics over all OOD rows and for each of their groups, where the truth is known.
    `folder`: where a killed run has left its partial sums; None: nothing is cached.
    """
    check_pair(train, test)
    # Labels of the test rows are not used; OOD rows have none.
    group = {} if test.group is None else {"group": list(test.group)}
    test = test.derived(labels=None, is_noisy=None, extra=group | test.extra,
                        class_names=test.class_names or train.class_names)
    clock = Clock()
    clock.lap("loading")
    fingerprints = train.fingerprint, test.fingerprint
    for fingerprint in fingerprints:
        processes.check_same(fingerprint)
    target = train.every(settings.hop)
    target_features, target_probs, odd_train = on_device(target, settings, folder,
                                                          progress=progress)
    features, probs, odd_test = on_device(test, settings, folder, progress=progress)
    k, fewer = _neighbours(len(target_features), settings.hop)
    inputs = Inputs(train, test, features, target_features, k, settings.chunk, progress)
    scores, left_out = _baselines(detectors, inputs, clock)
    notes = [*train.notes, *test.notes, *odd_train, *odd_test, *left_out,
             *(fewer if "KNN" in scores else [])]

    sums = None if folder is None else PartialSums(folder, settings, " ".join(fingerprints))
    scores["relation"] = related_to(target_features, target_probs, settings, progress=progress,
                                    checkpoint=sums)(features, probs)
    if sums is not None:
        sums.remove()
    clock.lap("relation")
    notes += _add_auto(scores, inputs, target)
    clock.lap("auto")
    leakage = whole_set.find_leakage(target, test, settings, progress=progress)
    said, facts = whole_set.told_of(leakage)
    clock.lap("leakage")
    metrics, why_not = evaluate_groups(scores, test)
    clock.lap("metrics")
    return Result(
        test, settings, scores, test.is_ood, metrics, fingerprints[1], clock.laps,
        [*notes, *_unrelated(scores["relation"], settings.threshold), *said, *why_not],
        _provenance(train, test, fingerprints[0]) | {
            "id_thresholds": id_thresholds(scores, test.is_ood)} | facts,
        leakage=leakage, train=target)


def related_to(target_features: Tensor, target_probs: Tensor, settings: Settings, *,
               progress: bool = False, checkpoint: PartialSums | None = None
               ) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from features and probabilities to relation scores (N,) on the CPU."""
    def scores(features: Tensor, probs: Tensor) -> Tensor:
        return out_of_memory.halving(lambda chunk: relation.detect_ood(
            features, probs, target_features, target_probs, kernel=settings.kernel,
            temperature=settings.temperature, threshold=settings.threshold, chunk=chunk,
            engine=settings.engine, progress=progress,
            checkpoint=checkpoint if chunk == settings.chunk else None), settings.chunk).cpu()
    return scores


def _provenance(train: Samples, test: Samples, fingerprint: str) -> dict[str, Any]:
    """The training rows; of the user's data also which rows were left out."""
    found = {"train": {"source": train.source, "n": len(train), "fingerprint": fingerprint}}
    if test.own_data:
        found["left_out"] = {name: [row._asdict() for row in samples.left_out]
                             for name, samples in (("train", train), ("test", test))}
    return found


def _add_auto(scores: dict[str, Tensor], inputs: Inputs, target: Samples) -> list[str]:
    """Put `auto` against the kept training rows into `scores`, or return why there is none."""
    test, train = (relation.Outputs(samples.features, samples.probs, samples.labels,
                                    inputs.energy(samples)) for samples in (inputs.test, target))
    auto = relation.auto_outlier_scores(test, train, device=inputs.features.device,
                                        progress=inputs.progress).scores
    if not auto.isfinite().all():
        return ["auto is left out: it overflows on these features"]
    scores["auto"] = auto
    return []


def _baselines(detectors: Mapping[str, Detector], inputs: Inputs, clock: Clock
               ) -> tuple[dict[str, Tensor], list[str]]:
    """Scores by name, and a note for each baseline that is left out."""
    scores, notes = {}, []
    for name, detector in detectors.items():
        reason = inputs.lacks(detector.need)
        if reason is None:
            values = out_of_memory.halving(partial(_scores, detector, inputs), inputs.chunk)
            clock.lap(name)
            if values.isfinite().all():
                scores[name] = values
                continue
            reason = "its scores overflow on these features"
        notes.append(f"{name} is left out: {reason}")
    return scores, notes


def _scores(detector: Detector, inputs: Inputs, chunk: int) -> Tensor:
    if chunk != inputs.chunk:  # else keep what it has cached
        inputs = replace(inputs, chunk=chunk)
    return detector.scores(inputs).float().cpu()


def _neighbours(m: int, hop: int) -> tuple[int, list[str]]:
    """k of KNN for m kept training rows, and a note where they are too few, or hardly enough."""
    k = KNN_NEIGHBOURS // hop
    if k < m - m // KNN_SHARE:
        return k, []
    if k < m:
        return k, [f"KNN: k = {k} of {m} training rows, so that it measures distant rows; "
                   f"auto takes the second nearest"]
    fewer = max(m // KNN_SHARE, 1)
    return fewer, [f"KNN: k = {fewer} instead of {k}, since there are {m} training rows"]


def _unrelated(score: Tensor, threshold: float) -> list[str]:
    """A note on test rows without a kept relation: their order among each other says nothing."""
    count = int((score > 0.999 / EPS).sum())
    return [f"{count} of {len(score)} test rows have no relation above the threshold {threshold}, "
            f"or next to none, and share the highest relation score"] if count else []
