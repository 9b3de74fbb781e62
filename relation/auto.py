"""One score that does not ask how long the model was trained: `auto`.

Witnesses give every row probabilities p_k(c) over the classes, without a look at its own label but
for the model's, and sharpened until the given labels are most probable under them:

    model          the given probabilities, of a network that was trained on the row's own label
    loo            ridge regression without the row (`leave_one_out.py`)
    local, votes   similarity to each class's nearest rows, and the nearest rows' labels
                   (`neighbours.py`)
    refit          ridge regression fitted on the trusted rows alone
    trusted        `local` among the trusted rows alone

Trusted are the rows whose label neither loo nor local would replace. Probabilities are averaged and
not ranks: a witness that knows little says so, by probabilities that are all alike, and so does one
that repeats every given label. HIGHER = MORE SUSPECT:

    q    = (2 w model + loo + local + votes + (refit + trusted) / 2) / (2 w + 4)
    auto = 1 - q_y        where labels go wrong from one class to another: see `class_noise.py`

refit and trusted are a second opinion of the same two witnesses and count as one: they see through
many wrong labels, and take hard rows for wrong ones. w is how far the model may be believed, seen
without knowing the truth. Of the labels that loo rejects, it rejects a share a: near 1 if it never
memorised them, near 0 if it did. Of those that loo accepts it accepts a share b: less than 1 if it
is trained too little. A coin would reach 1/2:

    w = max(0, min(2 a - 1, 2 b - 1))

The 2 of 2 w: hard rows keep w well below 1 for a model that memorised nothing, which knows more
than any of the others, as it learned from the data and not from features.

Beyond DENSE entries (N, C) a row is asked about SLOTS classes: its own and the likeliest. Beyond
KEPT it is asked about fewer, in fewer directions, and leave-one-out's probabilities are those of
`shortlist.py`, which says what is exact there and what is not.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from relation.class_noise import find_class_noise, wrong_probs
from relation.count import Count, count_wrong
from relation.leave_one_out import LeaveOneOut, fit_leave_one_out, fit_roughly
from relation.neighbours import (
    AMONG,
    Sample,
    ask_neighbours,
    half_whitened,
    local_probs,
    vote_probs,
)
from relation.parallel import from_first
from relation.shortlist import AMONG_MANY, first_distinct, make_shortlist

DENSE = 2**22
SLOTS = 8
KEPT = 10**8  # entries (N, C) up to which leave-one-out's are all computed and kept: 400 MB
OF_MODEL = 3  # of the slots at most are the model's likeliest classes, the others leave-one-out's


class Regime(NamedTuple):
    """Shares of the given labels that model, leave-one-out and neighbours reproduce; a, b and w.

    contradicted: a of the labels that leave-one-out and neighbours both reject. Fewer of these are
    hard and right, so that it is near the share of wrong labels that the model has not memorised.
    1 where there are none.
    """

    model: float
    leave_one_out: float
    neighbours: float
    rejected_too: float
    accepted_too: float
    weight: float
    contradicted: float


class Auto(NamedTuple):
    """All (N,), on the CPU, higher = more suspect: scores in 0 .. 1 and its parts by their names.

    suggested_labels: the likeliest class of the average; voted_labels: that of the trusted
    neighbours. n_wrong: estimated number of wrong labels, counted: it with its interval.
    n_suspects: rows whose label leave-one-out rejects. probs (N, C): of leave-one-out, where the
    features are, None beyond KEPT entries.
    """

    scores: Tensor
    parts: dict[str, Tensor]
    suggested_labels: Tensor
    voted_labels: Tensor
    counted: Count
    n_suspects: int
    regime: Regime
    probs: Tensor | None

    @property
    def n_wrong(self) -> int:
        return self.counted.wrong


def auto_scores(features: Tensor, probs: Tensor, labels: Tensor, *,
                settled: Tensor | None = None, progress: bool = False) -> Auto:
    """Score every row of a labelled set, choosing by what the data say and by nothing else.

    features (N, D), probs (N, C) of the model, labels (N,). No setting, no truth. settled (N,)
    bool: rows whose labels somebody has checked. They are trusted and suggested as they are; w, the
    pattern of the noise and the number of wrong labels are those of the other rows.
    """
    said = _ask(features.detach(), probs.detach(), labels, settled, progress=progress)
    slots, loo, local, votes, refit, voting = said[:6]
    labels, classes = slots[:, 0], probs.shape[1]

    def likeliest(p: Tensor) -> Tensor:
        return slots.gather(1, p.argmax(1, keepdim=True))[:, 0]

    by_loo, by_near, voted, asked = likeliest(loo), likeliest(local), likeliest(voting), said.asked
    regime = _regime(*(guess[asked] for guess in (likeliest(said.model), by_loo, by_near, labels)))
    held, double = loo + local + votes, 2 * regime.weight
    mixed = (double * said.model + held + (refit + voting) / 2) / (double + 4)
    noise = find_class_noise(mixed[asked], slots[asked], labels[asked], classes)
    suggested = likeliest(mixed)
    if settled is not None:
        suggested = torch.where(settled.to(labels.device), labels, suggested)
    counted = Count(0, 0, 0, True)
    if settled is None or not settled.all():
        replaced = (likeliest(refit) == voted) & (voted != labels)
        agreed = (by_loo == by_near) & (by_loo != labels)
        share = torch.where(slots >= 0, said.shares[slots.clamp(min=0)], 0.0)
        counted = count_wrong(held[asked] / 3, share[asked], said.keys[asked],
                              replaced=int(replaced[asked].sum()), agreed=int(agreed[asked].sum()),
                              rejected=int((~said.trusted).sum()), class_noise=noise.weight)
    parts = {"loss (loo)": loo, "loss (refit)": refit, "neighbours": local, "votes": votes,
             "neighbours (trusted)": voting}
    return Auto(wrong_probs(mixed, slots, labels, noise).cpu(),
                {name: -p[:, 0].clamp(min=1e-38).log().cpu() for name, p in parts.items()},
                suggested.cpu(), voted.cpu(), counted, int((by_loo != labels).sum()), regime,
                said.held_out)


class _Said(NamedTuple):
    """slots (N, S), -1 where there are fewer classes, the given label first, and the probabilities
    (N, S) of each witness at them; `voting` are the trusted neighbours.

    shares (C,): of the rows that have a label; trusted (N,); asked: the rows whose label may be
    wrong; held_out (N, C): of leave-one-out, or None; keys (N,): by which rows are sampled.
    """

    slots: Tensor
    loo: Tensor
    local: Tensor
    votes: Tensor
    refit: Tensor
    voting: Tensor
    model: Tensor
    shares: Tensor
    trusted: Tensor
    asked: Tensor | slice
    held_out: Tensor | None
    keys: Tensor


def _ask(features: Tensor, probs: Tensor, labels: Tensor, settled: Tensor | None, *, progress: bool
         ) -> _Said:
    """What all witnesses say; of large sets only about the few classes of a shortlist."""
    classes, large = probs.shape[1], probs.numel() > KEPT
    fit = (fit_roughly if large else fit_leave_one_out)(features, labels, classes,
                                                        progress=progress)
    labels, held_out = labels.to(fit.rows.device), None if large else torch.empty_like(probs)
    short = make_shortlist(fit, probs, progress=progress) if large else None
    slots, loo, model, close = short[:4] if short else (
        *_candidates(fit, probs, held_out, progress=progress), half_whitened(fit))
    keys = fit.rows.keys
    sample = Sample(keys, AMONG_MANY if large else AMONG)
    near = ask_neighbours(close, labels, slots, sample=sample, progress=progress)
    local = local_probs(near.local, keys)
    shares = torch.bincount(labels, minlength=classes) / len(labels)
    trusted, asked = _with_settled((loo.argmax(1) == 0) & (local.argmax(1) == 0), settled)
    sure = trusted if trusted.any() else ~trusted
    sure = from_first(sure)  # each process fits by itself: they may differ by rounding
    fit = fit.refit(sure.double(), progress=progress)
    refit = (short.again if short else partial(_at, slots=slots))(fit, progress=progress)
    voting = ask_neighbours(close, labels, slots, trusted=sure, vote=False, sample=sample,
                            progress=progress)
    return _Said(slots, loo, local, vote_probs(near.votes, slots, shares, keys), refit,
                 local_probs(voting.local, keys, sure), model, shares, trusted, asked, held_out,
                 keys)


def _with_settled(trusted: Tensor, settled: Tensor | None) -> tuple[Tensor, Tensor | slice]:
    """Trusted (N,) with the settled rows, and the rows whose labels may be wrong: the others, or
    all where there are no others."""
    if settled is None:
        return trusted, slice(None)
    settled = settled.to(trusted.device)
    return trusted | settled, slice(None) if settled.all() else ~settled


def _candidates(fit: LeaveOneOut, probs: Tensor, held_out: Tensor, *, progress: bool
                ) -> tuple[Tensor, Tensor, Tensor]:
    """slots (N, S), the classes each row is asked about, -1 where there are fewer, the given label
    first; and the probabilities (N, S) that leave-one-out and the model give to them. Fills
    held_out (N, C) with all of leave-one-out's."""
    n, classes = probs.shape
    labels, device = fit.rows.labels, fit.rows.device
    width = classes if n * classes <= DENSE else min(classes, SLOTS)
    slots = torch.empty(n, width, dtype=torch.int64, device=device)
    loo, model = (torch.empty(n, width, device=device) for _ in range(2))
    for rows, log_probs in fit.blocks(progress=progress):
        held_out[rows] = log_probs.exp().to(held_out.device, held_out.dtype)
        own, given = probs[rows].to(device).float(), labels[rows, None]
        from_model = min(OF_MODEL, classes)
        likely = torch.cat([given, log_probs.topk(min(classes, width), dim=1).indices], 1)
        if width < classes:
            likely = torch.cat([given, own.topk(from_model, dim=1).indices, likely[:, 1:]], 1)
        slots[rows] = found = first_distinct(likely, width)[0]
        there = found >= 0
        loo[rows] = log_probs.gather(1, found.clamp(min=0)).exp().float().where(there, 0.0)
        model[rows] = own.gather(1, found.clamp(min=0)).where(there, 0.0)
    return slots, loo, model


def _at(fit: LeaveOneOut, *, slots: Tensor, progress: bool) -> Tensor:
    """Probabilities (N, S) of the fit at the slots."""
    found = torch.zeros(slots.shape, device=slots.device)
    for rows, log_probs in fit.blocks(progress=progress):
        at = slots[rows]
        found[rows] = log_probs.gather(1, at.clamp(min=0)).exp().float().where(at >= 0, 0.0)
    return found


def _regime(model: Tensor, loo: Tensor, near: Tensor, labels: Tensor) -> Regime:
    rejected = loo != labels
    both = rejected & (near != labels)
    a, contradicted = (float((model != labels)[rows].double().mean()) if rows.any() else default
                       for rows, default in ((rejected, 0.0), (both, 1.0)))
    b = float((model == labels)[~rejected].double().mean()) if not rejected.all() else 0.0
    of_model, of_loo, of_near = (float((guess == labels).double().mean())
                                 for guess in (model, loo, near))
    return Regime(of_model, of_loo, of_near, a, b, max(0.0, min(2 * a - 1, 2 * b - 1)),
                  contradicted)
