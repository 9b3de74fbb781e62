"""What `auto` says of the data: its scores, suggested labels, and the words on the screen.

The suggested label is the likeliest class of the average of `auto` (relation/auto.py), of the best
epoch where there are several; `label_errors` then corrects misspelt names of classes.

The words: whether the network has memorised the wrong labels (`_regime_in_words` decides, from the
shares that relation.Regime holds), and about how many labels are wrong.
"""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import relation
from experiment.files import scratch
from experiment.inputs.samples import RELABEL, Samples

# cleanlab works on a float64 copy of the probabilities and then some: up to a few GB.
CLEANLAB_ENTRIES = 10**8
NOTHING_LEFT = 0.995  # share of reproduced labels from which the report warns
TRUSTED = 0.5  # weight of the model's own loss in auto from which its probabilities stand for all
TRAINED = 0.75  # share of accepted labels below which a network has not learned: half a weight
# Share of contradicted labels from which a network has memorised none, below which it has: about
# three to six in ten of the wrong labels are reproduced between them (relation/README.md)
NOT_MEMORISED, MEMORISED = 0.75, 0.5


@dataclass(frozen=True)
class Verdict:
    """Tensors on the CPU over the kept rows."""

    suggested_labels: Tensor  # (N,)
    voted_labels: Tensor  # (N,) of the neighbours
    loo_probs: Tensor | None  # (N, C) of leave-one-out, where the model's own cannot be trusted
    statement: list[str]  # lines for the screen
    facts: dict[str, Any]  # the same in numbers, for metrics.json


def auto_scores(features: Tensor, probs: Tensor, labels: Tensor,
                copies: relation.Duplicates | None, *, settled: Tensor | None = None,
                folder: Path | None = None, progress: bool) -> relation.Auto:
    """`relation.auto_scores`, in which copies (of the N rows) of one label count once.

    A row that was copied with its wrong label would else vouch for itself. Copies with different
    labels contradict each other. The copies of what counts as wrong are counted, too. What is
    settled (N,) bool of one row is settled of its copies with the same label. What is left of many
    rows lies in a file in `folder`.
    """
    if copies is None or len(copies.sizes) == 0:
        return relation.auto_scores(features, probs, labels, settled=settled, progress=progress)
    first = relation.first_of_group(copies.groups, labels)
    single, at = first.unique(return_inverse=True)
    rows = single.to(features.device)
    if settled is not None:
        settled = torch.zeros(len(single), dtype=torch.bool).index_put((at[settled],),
                                                                       torch.tensor(True))
    features, probs = (scratch.taken(folder, values, rows) for values in (features, probs))
    found = relation.auto_scores(features, probs, labels[rows], settled=settled, progress=progress)
    replaced = (found.suggested_labels != labels[rows].cpu()).nonzero()[:, 0]
    replaced = replaced[(-found.scores[replaced]).argsort(stable=True)]
    more, counted = at.bincount()[replaced] - 1, found.counted
    return found._replace(
        scores=found.scores[at], parts={name: part[at] for name, part in found.parts.items()},
        suggested_labels=found.suggested_labels[at], voted_labels=found.voted_labels[at],
        counted=counted._replace(**{name: count + int(more[:count].sum()) for name, count in
                                    counted._asdict().items() if name != "claimed"}),
        probs=None if found.probs is None else found.probs[at.to(found.probs.device)])


def describe(kept: Samples, found: relation.Auto, others: dict[str, relation.Auto]
             ) -> tuple[dict[str, Tensor], Verdict]:
    """The further scores by their printed names, `auto` last, and what is said beside them.

    `found` is what `auto_scores` found.

    With `others`, the same rows at other epochs, `auto` is their mean, each weighted with the
    number of labels that its leave-one-out rejects and its model rejects too, beyond chance: the
    epochs that had not yet memorised what is wrong. The epoch of the largest weight suggests labels
    and estimates how many are wrong.
    """
    auto, first = found.scores, found
    statement = _regime_in_words(found.regime, kept.out_of_sample)
    facts: dict[str, Any] = {"regime": found.regime._asdict()}
    if others:
        weights = {name: _evidence(other) for name, other in others.items()}
        total = sum(weights.values())
        # Nothing to go by: every epoch counts the same.
        weights = {name: weight / total if total else 1 / len(others)
                   for name, weight in weights.items()}
        auto = torch.stack([weights[name] * other.scores
                            for name, other in others.items()]).sum(0)
        first = others[max(weights, key=lambda name: weights[name])]
        facts["epoch_weights"] = weights
        statement.append("auto is averaged over epochs, weighted with what they have not "
                         "memorised: "
                         + ", ".join(f"{name} ({weight:.2f})" for name, weight in weights.items()))
    wrong, low, high, claimed = first.counted
    known = kept.decisions.count(RELABEL)
    facts["estimated_wrong"] = known + wrong
    facts["wrong_between"] = [known + low, known + high] if claimed else None
    statement.append(_how_many(first.counted, len(kept)) if not kept.reviewed else
                     _how_many_more(first.counted, known, kept.is_settled))
    scores = dict(found.parts)
    issues = None if found.probs is None else _cleanlab(found.probs, kept.labels)
    if issues is not None:
        scores["cleanlab (loo)"] = issues
    trusted = kept.out_of_sample or found.regime.weight >= TRUSTED
    return scores | {"auto": auto}, Verdict(
        first.suggested_labels, first.voted_labels,
        None if trusted or found.probs is None else found.probs.cpu(), statement, facts)


def loo_name(name: str) -> str:
    """relation (initial) -> relation (initial, loo), loss -> loss (loo)."""
    return name.replace(")", ", loo)") if name.endswith(")") else f"{name} (loo)"


def _evidence(found: relation.Auto) -> float:
    beyond_chance = found.regime.rejected_too + found.regime.accepted_too - 1
    return max(0.0, beyond_chance) * found.n_suspects


def _regime_in_words(regime: relation.Regime, out_of_sample: str) -> list[str]:
    """Plain words for the shares, and for the weight of the model's own loss in `auto`.

    `out_of_sample`: how probabilities were made without the row's own label; else empty.
    """
    model = "cross-validation" if out_of_sample else "the model"
    shares = (f"{model} reproduces {_percent(regime.model)} of the given labels, leave-one-out "
              f"{_percent(regime.leave_one_out)}, nearest neighbours {_percent(regime.neighbours)}")
    if out_of_sample:
        verdict = "no row's own label had a say in any of the three"
    elif regime.accepted_too < min(regime.rejected_too, TRAINED):
        verdict = "it is trained too little for its own probabilities to count"
    elif regime.contradicted >= NOT_MEMORISED:
        verdict = "it has not memorised the wrong ones: its own probabilities count here"
    elif regime.contradicted >= MEMORISED:
        verdict = "it has memorised some: its own probabilities count little here"
    else:
        verdict = "it has memorised: its own probabilities cannot be trusted here"
    weighed = f"weight of {'its' if not out_of_sample else 'the first'} loss in auto"
    lines = [f"{shares}:\n{verdict} ({weighed}: {regime.weight:.2f})"]
    # Features that carry the labels they were trained on fool the linear fit long before they
    # fool the neighbours.
    fooled = regime.weight < TRUSTED and 1 - regime.leave_one_out < (1 - regime.neighbours) / 2
    if out_of_sample and regime.leave_one_out >= NOTHING_LEFT:
        lines.append("leave-one-out finds little to reject: few labels are wrong, unless the "
                     "features were trained on them")
    elif not out_of_sample and (fooled or regime.leave_one_out >= NOTHING_LEFT):
        lines.append("leave-one-out finds little to reject: either few labels are wrong, or the "
                     "features have memorised too and an earlier epoch would tell more")
    return lines


def _how_many(counted: relation.Count, n: int) -> str:
    wrong, low, high, claimed = counted
    if claimed:
        return (f"about {wrong:,} of {n:,} labels ({_percent(wrong / n)}) are wrong, between "
                f"{low:,} and {high:,}; scores.csv suggests a label for each row")
    return (f"how many labels are wrong cannot be told from these features: they may repeat them, "
            f"or classes may be hard; {wrong:,} of {n:,} ({_percent(wrong / n)}) are taken for "
            f"wrong, and scores.csv suggests a label for each row")


def _how_many_more(counted: relation.Count, known: int, is_settled: Tensor) -> str:
    """Where rows were reviewed: `known` of their labels were wrong, `counted` are the others."""
    wrong, low, high, claimed = counted
    n, reviewed = len(is_settled), int(is_settled.sum())
    share = _percent(wrong / max(1, n - reviewed))
    said = (f"about {wrong:,} of the other {n - reviewed:,} ({share}) are, between {low:,} and "
            f"{high:,}: about {known + wrong:,} of {n:,} in all" if claimed else
            f"how many of the other {n - reviewed:,} are cannot be told from these features: they "
            f"may repeat them, or classes may be hard; {wrong:,} ({share}) are taken for wrong")
    return f"{known:,} of {reviewed:,} reviewed labels were wrong; {said}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cleanlab(probs: Tensor, labels: Tensor) -> Tensor | None:
    """find_label_issues of cleanlab on leave-one-out probabilities, where it is installed.

    The rows it finds come first; within both parts by 1 - p_y, as it ranks them.
    """
    if importlib.util.find_spec("cleanlab") is None or probs.numel() > CLEANLAB_ENTRIES:
        return None
    from cleanlab.filter import find_label_issues

    wide = probs.double().cpu()
    wide = wide / wide.sum(1, keepdim=True)
    present = torch.unique(labels)
    if len(present) < 2:
        return None
    wide, given = wide[:, present], torch.searchsorted(present, labels.contiguous())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of small classes, which the report names
        found = find_label_issues(given.numpy(), wide.numpy(), n_jobs=1)
    own = wide.gather(1, given[:, None])[:, 0]
    return 1 - own + torch.from_numpy(found).double()
