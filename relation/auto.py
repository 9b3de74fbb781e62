"""One score that does not ask how long the model was trained: `auto`.

Four scores of the given labels, HIGHER = MORE SUSPECT:

    loss           -log p_y of the model, which was trained on the row's own label
    loss (loo)     -log p_y of ridge regression without the row (`leave_one_out.py`)
    loss (refit)   the same, fitted without every row that the first fit or the neighbours reject
    neighbours     the nearest rows that neither rejects (`neighbours.py`)

How far the model may be believed is seen without knowing the truth. Of the labels that
leave-one-out rejects, it rejects a share a: near 1 if it never memorised them, near 0 if it did. Of
those that leave-one-out accepts it accepts a share b: less than 1 if it is trained too little. A
coin would reach 1/2, so

    w    = max(0, min(2 a - 1, 2 b - 1))
    auto = (loss (refit) + (2 - w) neighbours + w (loss + loss (loo))) / (3 + w)

of the scores' ranks divided by N: ranks, as their scales have nothing in common. Where the model
knows, all four are averaged; where it only repeats what it was told, the two that listened to the
suspects fall silent, and the neighbours speak for one of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from relation.label_baselines import label_baseline_scores
from relation.leave_one_out import LeaveOneOut, fit_leave_one_out, row_blocks
from relation.neighbours import ask_neighbours
from relation.parallel import from_first


class Regime(NamedTuple):
    """Shares of the given labels that model, leave-one-out and neighbours reproduce; a, b and w."""

    model: float
    leave_one_out: float
    neighbours: float
    rejected_too: float
    accepted_too: float
    weight: float


class Auto(NamedTuple):
    """All (N,), on the CPU, higher = more suspect: scores in 0 .. 1 and its parts by their names.

    suggested_labels: what the refit predicts; voted_labels: the class of the trusted neighbours.
    n_wrong: rows whose label both replace, by the same one. n_suspects: rows whose label
    leave-one-out rejects. probs (N, C): of leave-one-out, where the features are.
    """

    scores: Tensor
    parts: dict[str, Tensor]
    suggested_labels: Tensor
    voted_labels: Tensor
    n_wrong: int
    n_suspects: int
    regime: Regime
    probs: Tensor


def auto_scores(features: Tensor, probs: Tensor, labels: Tensor, *, progress: bool = False) -> Auto:
    """Score every row of a labelled set, choosing by what the data say and by nothing else.

    features (N, D), probs (N, C) of the model, labels (N,). No setting, no truth.
    """
    classes = probs.shape[1]
    fitted = fit_leave_one_out(features, labels, classes, progress=progress)
    held_out = torch.empty_like(probs)
    loo_loss, loo_label = _read(fitted, labels, held_out, progress=progress)
    near = ask_neighbours(features, labels, classes, progress=progress)
    trusted = (loo_label == labels) & (near.winner == labels)
    if not trusted.any():
        trusted = ~trusted
    trusted = from_first(trusted)  # each process fits by itself: they may differ by rounding
    # Settings of the first fit: chosen on trusted rows alone they would suit labels without noise.
    refit = fit_leave_one_out(features, labels, classes, weights=trusted.double(),
                              penalty=fitted.penalty,
                              softmax_temperature=fitted.softmax_temperature, progress=progress)
    refit_loss, refit_label = _read(refit, labels, None, progress=progress)
    trusted_near = ask_neighbours(features, labels, classes, trusted=trusted, progress=progress)

    regime = _regime(_predictions(probs), loo_label, near.winner, labels)
    parts = {"loss (loo)": loo_loss.cpu(), "loss (refit)": refit_loss.cpu(),
             "neighbours": trusted_near.against.cpu()}
    replaced = (refit_label != labels) & (refit_label == trusted_near.winner)
    model_loss = label_baseline_scores(features, probs, labels)["loss"].cpu()
    return Auto(_combine(model_loss, parts, regime.weight), parts,
                refit_label.cpu(), trusted_near.winner.cpu(), int(replaced.sum()),
                int((loo_label != labels).sum()), regime, held_out)


def average_ranks(scores: Tensor) -> Tensor:
    """Rank / N in float64, the largest 1; equal scores share the mean of their ranks."""
    _, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse] / len(scores)


def _combine(model_loss: Tensor, parts: dict[str, Tensor], weight: float) -> Tensor:
    model, loo, refit, near = (average_ranks(scores) for scores in (model_loss, *parts.values()))
    return (refit + (2 - weight) * near + weight * (model + loo)) / (3 + weight)


def _read(fitted: LeaveOneOut, labels: Tensor, probs: Tensor | None, *, progress: bool
          ) -> tuple[Tensor, Tensor]:
    """-log p_y (N,) and the label of largest p (N,); fills `probs` (N, C) where it is wanted."""
    own = torch.empty(len(labels), dtype=torch.float64, device=fitted.rows.device)
    best = torch.empty_like(labels)
    for rows, log_probs in fitted.blocks(progress=progress):
        own[rows] = -log_probs.gather(1, fitted.rows.labels[rows, None])[:, 0]
        best[rows] = log_probs.argmax(1).to(best.device)
        if probs is not None:
            probs[rows] = log_probs.exp().to(probs.device, probs.dtype)
    return own, best


def _predictions(probs: Tensor) -> Tensor:
    """Labels of largest probability (N,), in blocks, as probs may be memory-mapped."""
    labels = torch.empty(len(probs), dtype=torch.int64, device=probs.device)
    for rows in row_blocks(len(probs), "", progress=False):
        labels[rows] = probs[rows].argmax(1)
    return labels


def _regime(model: Tensor, loo: Tensor, near: Tensor, labels: Tensor) -> Regime:
    rejected = loo != labels
    a = float((model != labels)[rejected].double().mean()) if rejected.any() else 0.0
    b = float((model == labels)[~rejected].double().mean()) if not rejected.all() else 0.0
    shares = (float((guess == labels).double().mean()) for guess in (model, loo, near))
    return Regime(*shares, a, b, max(0.0, min(2 * a - 1, 2 * b - 1)))
