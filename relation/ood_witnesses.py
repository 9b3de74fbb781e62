"""Outlier scores that know what a training row scores without itself; `ood_auto.py` joins them.

M training rows, N rows judged, B rows at a time, D features, C classes. All HIGHER = MORE OUTLYING.
Each score has one value for a new row and one for training row i that i itself has no part in:

    energy       -log sum_c exp(logit_c) of the model; where not known -log max_c p_c
    near (unit), near (plain), near (white)
                 distance to the NEAREST-th nearest reference row: between features of unit norm
                 (the order of the cosine), as they come, and whitened by the S below
                 (of all rows)
    relation     -(mean over the reference rows of max(0, f_i . f_j) (p_i . p_j)), f of unit norm
    Mahalanobis  min_c (f - m_c)^T S^-1 (f - m_c), S the shrunk covariance within classes

For the middle four row i is no reference of itself. For the last one mean and covariance are those
without row i, exactly but for the amount of shrinkage (`gaussian.py`). The energy of a training
row is the model's own, which was trained on it: no formula leaves it out. Of the coordinates of the
nearest rows none is best: a network's last features want one, a table's columns another.

References are all training rows up to REFERENCES, that many of them beyond, so that the cost
grows with N and M and never with N M.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from relation.gaussian import Gaussian, fit_gaussian
from relation.kernel import inverse_norm
from relation.parallel import in_order
from relation.sampling import row_keys, sample_rows
from relation.tiles import row_slices

NEAREST = 2  # one nearest row may be a twin or itself an outlier; more look beyond small classes
REFERENCES = 8192  # 32 MiB of float32 features for D = 1,024, three times
BLOCK = 1024  # rows at a time: 32 MiB of distances to the references
ITSELF = 3e38  # above every distance
NAMES = ("energy", "near (unit)", "near (plain)", "near (white)", "relation", "Mahalanobis")


class Outputs(NamedTuple):
    """What a model gives for N rows: features (N, D), not normalised, and probs (N, C).

    Where known, labels (N,) int64, which only those of training rows are asked for, and energy
    (N,) of the logits, as `ood_baselines.energy` computes it. Tensors may be memory-mapped.
    """

    features: Tensor
    probs: Tensor
    labels: Tensor | None = None
    energy: Tensor | None = None

    def take(self, rows: slice | Tensor) -> "Outputs":
        """The chosen rows, as stored."""
        return Outputs(*(None if field is None else field[rows] for field in self))


class References(NamedTuple):
    """R of the training rows, in float32, and what of them goes beside each product."""

    rows: Tensor  # (R,) row numbers in order, on the CPU
    plain: Tensor  # (R, D) centred, in units of the spread
    white: Tensor  # (R, D)
    probs: Tensor  # (R, C)
    plain_size: Tensor  # (R,) squared norms
    white_size: Tensor
    to_origin: Tensor  # (R,) the product with the way from the origin to the centre, and its square
    inverse: Tensor  # (R,) of the norm of what is not centred, 0 for a row of zeros

    @classmethod
    def of(cls, chosen: Outputs, rows: Tensor, within: Gaussian) -> "References":
        device = within.centre.device
        plain = within.centred(chosen.features.to(device, torch.float64))
        white, origin = plain @ within.whiten, within.from_origin
        return cls(rows, plain, white, chosen.probs.to(device).float(), plain.square().sum(1),
                   white.square().sum(1), plain @ origin + origin @ origin,
                   inverse_norm(plain + origin))


class Witnesses(NamedTuple):
    """The scores, fitted to training rows."""

    target: Outputs
    references: References
    within: Gaussian
    labels: Tensor  # (M,) given ones, or else predicted; on the CPU
    keys: Tensor  # (M,) by which rows are sampled; on the CPU
    with_energy: bool  # known of the training rows and of those to judge
    device: torch.device

    def of(self, source: Outputs) -> Tensor:
        """Scores (W, N) of new rows, float64, in the order of NAMES."""
        return self._blocks(len(source.features), lambda rows: self._block(source.take(rows), None))

    def without(self, rows: Tensor) -> Tensor:
        """Scores (W, len(rows)) of these training rows, each without itself."""
        return self._blocks(len(rows), lambda some: self._block(self.target.take(rows[some]),
                                                                rows[some]))

    def _blocks(self, n: int, compute: Callable[[slice], Tensor]) -> Tensor:
        """Scores (W, n) of all blocks of rows, by several threads."""
        scores = torch.empty(len(NAMES), n, dtype=torch.float64, device=self.device)
        blocks = list(row_slices(n, BLOCK))
        for rows, found in zip(blocks, in_order(compute, blocks, self.device)):
            scores[:, rows] = found
        return scores

    @torch.no_grad()  # of each thread's own
    def _block(self, block: Outputs, itself: Tensor | None) -> Tensor:
        """Scores (W, B); `itself` (B,) are the rows' own numbers if they are training rows."""
        plain = self.within.centred(block.features.to(self.device, torch.float64))
        white = plain @ self.within.whiten
        labels = None if itself is None else self.labels[itself].to(self.device)
        return torch.stack([
            _energy(block, self.with_energy).to(self.device),
            *self._to_references(plain, white, block.probs, itself),
            self.within.distances(white, labels)])

    def _to_references(self, plain: Tensor, white: Tensor, probs: Tensor, itself: Tensor | None
                       ) -> list[Tensor]:
        """The three distances and the relation, each (B,)."""
        references, own = self.references, self._own(itself)
        products = plain @ references.plain.T
        nearest = [_second(references.plain_size - 2 * products, own, plain.square().sum(1)),
                   _second((white @ references.white.T).mul_(-2).add_(references.white_size), own,
                           white.square().sum(1))]
        # f_i . f_j from the product of what was centred
        origin = self.within.from_origin
        inverse = inverse_norm(plain + origin)
        cosines = products.add_((plain @ origin)[:, None]).add_(references.to_origin) \
            .mul_(inverse[:, None]).mul_(references.inverse)
        unit = _second(references.inverse.sign() - 2 * cosines, own, inverse.sign())
        related = cosines.clamp_(min=0).mul_(probs.to(self.device).float() @ references.probs.T)
        related[own] = 0
        others = torch.full((len(plain),), float(len(references.rows)), dtype=torch.float64,
                            device=self.device)
        others[own[0]] -= 1
        return [unit, *nearest, -related.sum(1, dtype=torch.float64) / others.clamp(min=1)]

    def _own(self, itself: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which of the rows are references, and which reference each of these is."""
        if itself is None:
            return (torch.empty(0, dtype=torch.int64, device=self.device),) * 2
        rows = self.references.rows
        at = torch.searchsorted(rows, itself).clamp(max=len(rows) - 1)
        own = (rows[at] == itself).nonzero()[:, 0]
        return own.to(self.device), at[own].to(self.device)


def fit_witnesses(target: Outputs, *, with_energy: bool, device: torch.device,
                  references: int | None = None) -> Witnesses:
    """Fit all of them to training rows: two passes over the features, in blocks.

    Labels that are not known are the predicted ones. `with_energy`: whether the judged rows have it
    too. `device` is where to compute, `references` how many references there are at most.
    """
    if device.type == "mps":  # Apple's GPUs have no float64
        device = torch.device("cpu")
    labels = target.labels
    if labels is None:
        labels = torch.empty(len(target.probs), dtype=torch.int64, device=target.probs.device)
        for block in row_slices(len(target.probs), BLOCK):
            labels[block] = target.probs[block].argmax(1)
    within = fit_gaussian(target.features, labels.to(device))
    keys = row_keys(target.features).cpu()
    rows = sample_rows(torch.arange(len(keys)), REFERENCES if references is None else references,
                       keys)
    return Witnesses(target, References.of(target.take(rows), rows, within), within, labels.cpu(),
                     keys, with_energy, device)


def _second(others: Tensor, own: tuple[Tensor, Tensor], size: Tensor) -> Tensor:
    """Distance (B,) float64 to the NEAREST-th nearest reference that is not the row itself.

    others (B, R): |r|^2 - 2 x . r, overwritten; size (B,): |x|^2. Of fewer references the last.
    """
    others[own] = ITSELF
    nearest = torch.full_like(size, ITSELF)
    for _ in range(NEAREST):  # a pass for each costs less than topk
        value, at = others.min(1)
        nearest = torch.where(value < ITSELF, value, nearest)
        others.scatter_(1, at[:, None], ITSELF)
    return torch.where(nearest < ITSELF, nearest + size, 0).clamp_(min=0).double().sqrt()


def _energy(block: Outputs, with_energy: bool) -> Tensor:
    """(B,) float64."""
    if with_energy:
        return block.energy.double()
    return -block.probs.double().amax(1).clamp(min=torch.finfo(torch.float64).tiny).log()
