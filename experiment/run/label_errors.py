"""From Samples to scores and metrics: the label-error pipeline, written once for every domain.

The scores, in the order of the printed table (scores.csv: see experiment.report.scores):

    relation.LABEL_BASELINES          loss, margin, entropy, least-confidence, cwe, tracin, jsd, of
                                      all rows; then thinned by `hop` like the rest
    relation (initial), relation      before and after refinement
    ... (loo)                         with `probs` "loo": these on leave-one-out probabilities
    relation.Auto.parts               loss (loo), loss (refit), neighbours, votes, neighbours
                                      (trusted): the witnesses of `auto`
    cleanlab (loo)                    where cleanlab is installed
    auto
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import relation
from experiment.command import out_of_memory, processes
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.run import verdict, whole_set
from experiment.run.cache import Cache
from experiment.run.result import Result
from experiment.run.settings import Settings
from experiment.run.steps import Clock, evaluate_all, on_device
from experiment.run.whole_set import WholeSet

NAME_LENGTH = 80  # characters of a row's name in a note
NOT_LOOKED_FOR = ("outliers and copies are not looked for in so many rows (--duplicates auto does, "
                  "in 2.5 times the time of the relation)")


def find_label_errors(samples: Samples, settings: Settings, *, folder: Path | None = None,
                      epochs: dict[str, Samples] | None = None, progress: bool) -> Result:
    """All scores that the settings ask for; `auto` is averaged over `epochs` (name -> samples).

    `folder`: where scores before refinement are cached as `settings.graph` says, and where a killed
    run has left partial sums; None: nothing is cached.
    Metrics where the truth is known and holds both classes; a note says why there are none.
    """
    clock = Clock()
    clock.lap("loading")
    fingerprint = samples.fingerprint
    processes.check_same(fingerprint)
    baselines = relation.label_baseline_scores(samples.features, samples.probs, samples.labels,
                                               progress=progress)
    kept = samples.every(settings.hop)
    scores = {name: values[::settings.hop] for name, values in baselines.items()
              if values.isfinite().all()}
    clock.lap("baselines")

    features, probs, notes = on_device(kept, settings, folder, progress=progress)
    notes += [*(f"{name} is left out: it overflows on these features"
                for name in baselines if name not in scores), *_lonely(kept)]
    related = partial(_relation_scores, features, labels=kept.labels.to(features.device),
                      settings=settings, own_data=kept.own_data, progress=progress)
    by_relation, about_initial = related(probs, cache=Cache.of(folder, settings, fingerprint))
    scores |= by_relation
    clock.lap("relation")
    notes += [*about_initial, *_relation_notes(scores, settings, own_data=kept.own_data)]

    loo = said = whole = None
    if settings.wants_whole_set(len(kept)):
        whole = whole_set.look_at(kept, settings, device=features.device, progress=progress)
        clock.lap("outliers and duplicates")
    if settings.wants_auto:
        judge = partial(verdict.auto_scores, copies=None if whole is None else whole.copies,
                        folder=folder, progress=progress)
        others = {name: _auto(other, samples, settings, judge)
                  for name, other in (epochs or {}).items()}
        found = judge(features, probs, kept.labels.to(features.device),
                      settled=kept.is_settled if kept.reviewed else None)
        more, said, loo = _by_auto(kept, features, probs, related, found, others, whole)
        scores |= more
        clock.lap("auto")
    notes += [] if whole or not said else [NOT_LOOKED_FOR]
    metrics, why_not = evaluate_all(scores, kept.is_noisy, "noisy", progress=progress)
    clock.lap("metrics")
    result = Result(kept, settings, scores, kept.is_noisy, metrics, fingerprint, clock.laps,
                    [*kept.notes, *notes, *why_not], _facts(kept, said, whole), said,
                    whole_set=whole)
    return result if settings.probs == "model" else _by_leave_one_out(result, loo)


def _by_auto(kept: Samples, features: Tensor, probs: Tensor, related: partial,
             found: relation.Auto, others: dict[str, relation.Auto], whole: WholeSet | None
             ) -> tuple[dict[str, Tensor], verdict.Verdict, Tensor | None]:
    """The further scores, what is said beside them, and leave-one-out's probabilities (N, C)
    where there is room for them or --probs loo asks for them."""
    settings, labels = related.keywords["settings"], related.keywords["labels"]
    scores, said = verdict.describe(kept, found, others)
    if whole is not None:  # the right spelling, for a row that would else keep a misspelt label
        suggested = said.suggested_labels
        said = replace(said, suggested_labels=torch.where(
            (suggested == kept.labels) & ~kept.is_settled, whole.spelled, suggested))
    loo = found.probs
    if settings.probs == "loo":
        if loo is None:
            loo = relation.leave_one_out_probs(features, labels, probs.shape[1],
                                               dtype=probs.dtype)
        scores = _on_loo(features, loo, labels, related) | scores
    return scores, said, loo


def _on_loo(features: Tensor, loo: Tensor, labels: Tensor, related: partial) -> dict[str, Tensor]:
    """The published scores on leave-one-out probabilities, by `verdict.loo_name`."""
    baselines = relation.label_baseline_scores(features, loo, labels)
    on_loo = {name: values for name, values in baselines.items() if values.isfinite().all()}
    # The other kernel does not look at probabilities.
    if related.keywords["settings"].kernel == "cos_p":
        on_loo |= related(loo)[0]
    return {verdict.loo_name(name): values.cpu() for name, values in on_loo.items()}


def _facts(samples: Samples, *found: verdict.Verdict | WholeSet | None
           ) -> dict[str, Any]:
    """What was `found`; of the user's data also where probabilities come from, which rows were
    left out, and how many of them were reviewed."""
    facts = {name: fact for one in found if one is not None for name, fact in one.facts.items()}
    if samples.own_data:
        facts |= {"probabilities": samples.out_of_sample or "the model's own",
                  "left_out": [row._asdict() for row in samples.left_out]}
    if samples.reviewed:
        facts["reviewed"] = Counter(row.decision for row in samples.reviewed)
    return facts


def _initial(features: Tensor, probs: Tensor, labels: Tensor, cache: Cache, how: dict[str, Any]
             ) -> tuple[Tensor, list[str]]:
    """s0 (N,), cached or computed and cached; and what to say of that."""
    cached = cache.load(len(labels))
    if processes.all_processes_have(cached):
        cache.remove_partial_sums()  # of a run that was killed between saving s0 and removing them
        return cached.to(features.device), [
            f"relation scores before refinement are taken from {cache.scores.path}"]
    initial = out_of_memory.halving(lambda chunk: relation.relation_scores(
        features, probs, labels, **how | {"chunk": chunk},
        checkpoint=cache.sums if chunk == how["chunk"] else None), how["chunk"])
    problem = cache.save(initial) if processes.is_first() else None
    cache.remove_partial_sums()
    return initial, [problem] if problem else []


def _lonely(kept: Samples) -> list[str]:
    """A note on classes with one row: nothing else of their class can support it."""
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


def _relation_notes(scores: dict[str, Tensor], settings: Settings, *, own_data: bool
                    ) -> list[str]:
    """What to say of relation scores that are not what they should be."""
    notes, initial = [], scores["relation (initial)"]
    refined, taken = settings.n_iter > 1, int((initial > settings.noise_threshold).sum())
    same = torch.equal(scores["relation"], initial)
    if refined and 2 * taken > len(initial):
        took = f"refinement took the labels of {taken:,} of {len(initial):,} rows to be wrong"
        notes.append(f"{took}: relation is relation (initial)" if own_data else
                     f"{took}, and turned against the rest: use relation (initial), or another "
                     f"--kernel, --pow or --reg")
    elif refined and same:
        notes.append("refinement changed nothing: both relation rows are the same")
    if not scores["relation"].any():
        notes.append(f"no relation is above the threshold {settings.threshold}: every relation "
                     f"score is 0; try a smaller --thres")
    return notes


def _relation_scores(features: Tensor, probs: Tensor, *, labels: Tensor, settings: Settings,
                     own_data: bool, progress: bool, cache: Cache | None = None
                     ) -> tuple[dict[str, Tensor], list[str]]:
    """relation before and after refinement, (N,) on the CPU under their printed names, and notes.

    On the user's own data without refinement, where that took more than half of the rows to be
    wrong: most relations would then change their sign on the word of a minority. Published
    experiments keep the published rule.
    """
    how: dict[str, Any] = dict(
        kernel=settings.kernel, temperature=settings.temperature, threshold=settings.threshold,
        chunk=settings.chunk, engine=settings.engine, progress=progress,
        prepared=relation.Prepared())
    initial, notes = _initial(features, probs, labels, cache or Cache.of(None, settings, ""), how)
    found = out_of_memory.halving(lambda chunk: relation.detect_label_noise(
        features, probs, labels, noise_threshold=settings.noise_threshold, n_iter=settings.n_iter,
        initial=initial, **how | {"chunk": chunk}), settings.chunk)
    before = -relation.relative(initial)
    sets = (found.estimated_noise, before > settings.noise_threshold)  # of the last step, the first
    no_evidence = own_data and settings.n_iter > 1 and any(2 * taken.sum() > len(taken)
                                                           for taken in sets)
    return {"relation (initial)": before.cpu(),
            "relation": (before if no_evidence else found.scores).cpu()}, notes


def _by_leave_one_out(result: Result, loo: Tensor) -> Result:
    """The same result with leave-one-out's relation and predictions in front of the model's.

    With kernel cos there is one relation, whatever the probabilities.
    """
    name = "relation (loo)" if "relation (loo)" in result.scores else "relation"
    return replace(result, samples=result.samples.derived(probs=loo.cpu()), relation_name=name)


def _auto(samples: Samples, like: Samples, settings: Settings, judge: partial) -> relation.Auto:
    """auto_scores of another epoch. Raises InputError unless it holds the rows of `like`."""
    if len(samples) != len(like) or not torch.equal(samples.labels, like.labels):
        raise InputError(f"--epochs: {samples.source} does not hold the same rows and labels in "
                         f"every epoch")
    kept = samples.every(settings.hop)
    features, probs, _ = on_device(kept, settings)
    return judge(features, probs, kept.labels.to(features.device))


