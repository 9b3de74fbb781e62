"""From Samples to scores and metrics: the label-error pipeline, written once for every domain."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import relation
from experiment.command import processes
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.run import memory, out_of_sample
from experiment.run.kept import Graph, PartialSums
from experiment.run.result import Result
from experiment.run.settings import Settings, wants_auto
from experiment.run.steps import Clock, evaluate_all, fingerprint_of, on_device

NAME_LENGTH = 80  # characters of a row's name in a note


def find_label_errors(samples: Samples, settings: Settings, *, noise_threshold: float,
                      n_iter: int, progress: bool, graph: Graph | None = None,
                      unfinished: Path | None = None,
                      epochs: dict[str, Samples] | None = None) -> Result:
    """Baselines on the features as they come, then relation before and after refinement; all of it
    on leave-one-out probabilities too; and `auto`, averaged over `epochs` (name -> samples).

    `graph` is where the scores before refinement are found, or kept for the next run; `unfinished`
    is the folder where a killed run has left their partial sums.
    Metrics where the truth is known and holds both classes; a note says why there are none.
    """
    clock = Clock()
    fingerprint = fingerprint_of(samples)
    processes.check_same(fingerprint)
    clock.lap("fingerprint")
    baselines = relation.label_baseline_scores(samples.features, samples.probs, samples.labels)
    kept = samples.every(settings.hop)
    columns = {name: scores[::settings.hop] for name, scores in baselines.items()
               if scores.isfinite().all()}
    clock.lap("baselines")

    features, probs, notes = on_device(kept, settings)
    notes += [*(f"{name} is left out: it overflows on these features"
                for name in baselines if name not in columns), *_lonely(kept)]
    labels = kept.labels.to(features.device)
    related = partial(_relation_columns, features, labels=labels, settings=settings,
                      noise_threshold=noise_threshold, n_iter=n_iter, progress=progress)
    sums = None if unfinished is None else PartialSums(unfinished, settings, fingerprint)
    initial, said = _initial(features, probs, labels, settings, graph, sums, fingerprint,
                             progress=progress)
    columns |= related(probs, initial=initial)
    clock.lap("relation")
    notes += [*said, *_relation_notes(columns, settings.threshold, noise_threshold, n_iter)]

    found = beyond = None
    if wants_auto(settings, len(kept)):
        others = {name: _auto(other, samples, settings, progress=progress)
                  for name, other in (epochs or {}).items()}
        found = relation.auto_scores(features, probs, labels, progress=progress)
        clock.lap("auto")
        on_loo = _on_loo(features, found.probs, labels, columns, related, settings.kernel)
        beyond = out_of_sample.describe(kept, found, on_loo, others)
        clock.lap("leave-one-out scores")
    else:
        notes.append("out-of-sample scores and auto are left out (--auto True computes them)")
    result = _result(kept, columns, beyond, settings, fingerprint, notes, clock,
                     noise_threshold=noise_threshold)
    return result if settings.probs == "model" else _by_leave_one_out(result, found.probs)


def _on_loo(features: Tensor, loo: Tensor, labels: Tensor, columns: dict[str, Tensor],
            related: Callable[[Tensor], dict[str, Tensor]], kernel: str) -> dict[str, Tensor]:
    """The scores of `columns` on leave-one-out probabilities, under the same names."""
    baselines = relation.label_baseline_scores(features, loo, labels)
    scores = {name: values for name, values in baselines.items() if name in columns}
    # The other kernel does not look at probabilities.
    return scores | related(loo) if kernel == "cos_p" else scores


def _result(kept: Samples, columns: dict[str, Tensor], beyond: out_of_sample.OutOfSample | None,
            settings: Settings, fingerprint: str, notes: list[str], clock: "Clock", *,
            noise_threshold: float) -> Result:
    """All that was found, with the metrics of every score."""
    scores = columns if beyond is None else {**columns, **beyond.columns, "auto": beyond.auto}
    metrics, why_not = evaluate_all(scores, kept.is_noisy, "noisy")
    clock.lap("metrics")
    facts = {} if beyond is None else beyond.facts
    others = {name: values for name, values in columns.items() if name != "relation"}
    return Result(kept, columns["relation"], others,
                  None if kept.is_noisy is None else "is_noisy", metrics, fingerprint, clock.laps,
                  [*kept.notes, *notes, *why_not], _provenance(kept) | facts, beyond,
                  kernel=settings.kernel, threshold=settings.threshold,
                  noise_threshold=noise_threshold)


def _provenance(samples: Samples) -> dict[str, Any]:
    """Of the user's data: where probabilities come from, and which rows were left out."""
    if not samples.own_data:
        return {}
    return {"probabilities": samples.out_of_sample or "the model's own",
            "left_out": [row._asdict() for row in samples.left_out]}


def _initial(features: Tensor, probs: Tensor, labels: Tensor, settings: Settings,
             graph: Graph | None, sums: PartialSums | None, fingerprint: str, *, progress: bool
             ) -> tuple[Tensor, list[str]]:
    """s0 (N,), found in the graph or computed and kept there; and what to say of that."""
    kept = None if graph is None else graph.load(len(labels), fingerprint, settings)
    if processes.all_have(kept):
        if sums is not None:  # of a run that was killed between keeping these and removing those
            sums.remove()
        return kept.to(features.device), [
            f"relation scores before refinement are taken from {graph.path}"]
    how = _how(settings, progress)
    initial = memory.halving(lambda chunk: relation.relation_scores(
        features, probs, labels, **how | {"chunk": chunk},
        checkpoint=sums if chunk == settings.chunk else None), settings.chunk)
    problem = None
    if graph is not None and processes.is_first():
        problem = graph.save(initial, fingerprint, settings)
    if sums is not None:
        sums.remove()
    return initial, [problem] if problem else []


def _lonely(kept: Samples) -> list[str]:
    """A note on classes with one row: nothing else of their class can speak for it."""
    counts = torch.bincount(kept.labels, minlength=kept.probs.shape[1])
    alone = (counts == 1).nonzero()[:, 0].tolist()
    named = []
    for label in alone[:5]:
        row = int((kept.labels == label).nonzero()[0])
        name = "" if kept.ids is None else f", {kept.ids[row][:NAME_LENGTH]}"
        named.append(f"{kept.class_name(label)} (row {int(kept.index[row])}{name})")
    more = ", …" if len(alone) > 5 else ""
    return [f"{len(alone)} of {len(counts)} classes have a single row, which nothing of its class "
            f"can support, so that it ranks as suspect: {', '.join(named)}{more}"] if alone else []


def _relation_notes(columns: dict[str, Tensor], threshold: float, noise_threshold: float,
                    n_iter: int) -> list[str]:
    """What to say of relation scores that are not what they should be."""
    notes, initial = [], columns["relation (initial)"]
    if n_iter > 1 and torch.equal(columns["relation"], initial):
        notes.append("refinement changed nothing: both relation rows are the same")
    taken = int((initial > noise_threshold).sum())
    if n_iter > 1 and 2 * taken > len(initial):
        notes.append(f"refinement took the labels of {taken:,} of {len(initial):,} rows to be "
                     f"wrong, and turned against the rest: use relation (initial), or another "
                     f"--kernel, --pow or --reg")
    if not columns["relation"].any():
        notes.append(f"no relation is above the threshold {threshold}: every relation score is 0; "
                     f"try a smaller --thres")
    return notes


def _how(settings: Settings, progress: bool) -> dict[str, Any]:
    """The settings as `relation`'s functions take them."""
    return dict(kernel=settings.kernel, temperature=settings.temperature,
                threshold=settings.threshold, chunk=settings.chunk, engine=settings.engine,
                progress=progress)


def _relation_columns(features: Tensor, probs: Tensor, *, labels: Tensor,
                      settings: Settings, noise_threshold: float, n_iter: int,
                      progress: bool, initial: Tensor | None = None) -> dict[str, Tensor]:
    """relation before and after refinement, (N,) on the CPU under their printed names."""
    how = _how(settings, progress)
    if initial is None:
        initial = memory.halving(lambda chunk: relation.relation_scores(
            features, probs, labels, **how | {"chunk": chunk}), settings.chunk)
    found = memory.halving(lambda chunk: relation.detect_label_noise(
        features, probs, labels, noise_threshold=noise_threshold, n_iter=n_iter, initial=initial,
        **how | {"chunk": chunk}), settings.chunk)
    return {"relation (initial)": -relation.relative(initial).cpu(),
            "relation": found.scores.cpu()}


def _by_leave_one_out(result: Result, loo: Tensor) -> Result:
    """The same result with leave-one-out's relation and predictions in front of the model's."""
    result = replace(result, samples=replace(result.samples, probs=loo.cpu()))
    columns = dict(result.beyond.columns)
    if "relation (loo)" not in columns:  # kernel cos: one relation, whatever the probabilities
        return result
    in_front = columns.pop("relation (loo)")
    columns["relation"] = result.relation_score
    return replace(result, relation_score=in_front, relation_name="relation (loo)",
                   beyond=replace(result.beyond, columns=columns))


def _auto(samples: Samples, like: Samples, settings: Settings, *, progress: bool
          ) -> relation.Auto:
    """auto_scores of another epoch. Raises InputError unless it holds the rows of `like`."""
    if len(samples) != len(like) or not torch.equal(samples.labels, like.labels):
        raise InputError(f"--epochs: {samples.source} does not hold the same rows and labels in "
                         f"every epoch")
    kept = samples.every(settings.hop)
    features, probs, _ = on_device(kept, settings)
    return relation.auto_scores(features, probs, kept.labels.to(features.device),
                                progress=progress)


