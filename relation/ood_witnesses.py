"""Outlier scores that know what a training row scores without itself; `ood_auto.py` joins them.

M training rows, N rows judged, B rows at a time, D features, C classes. All HIGHER = MORE OUTLYING.
Each score has one value for a new row and one for training row i that i itself has no part in:

    energy       -log sum_c exp(logit_c) of the model; where not known -log max_c p_c
    near (unit), near (plain), near (white)
                 distance to the second nearest reference row: between features of unit norm (the
                 order of the cosine), as they come, and whitened by the S below (of all rows)
    relation     -(mean over the training rows of max(0, f_i . f_j) (p_i . p_j)), f of unit norm
    Mahalanobis  min_c (f - m_c)^T S^-1 (f - m_c), S the shrunk covariance within classes

For the middle four row i is no reference of itself. For the last one mean and covariance are those
without row i, exactly but for the amount of shrinkage (`gaussian.py`). The energy of a training
row is the model's own, which was trained on it: no formula leaves it out. Of the coordinates of the
nearest rows none is best: a network's last features want one, a table's columns another.

References are all training rows, or of many some of each class (`references.py`), so that the cost
grows with N and M and never with N M.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from relation.gaussian import Gaussian, fit_gaussian
from relation.parallel import in_order
from relation.references import References, choose_references
from relation.sampling import row_keys
from relation.tiles import row_slices

BLOCK = 1024  # rows at a time: 32 MiB of distances to the references
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
        white = self.within.whitened(plain)
        labels = None if itself is None else self.labels[itself].to(self.device)
        far, nearest = self.within.distances(white, labels)
        probs = block.probs.to(self.device).float()
        return torch.stack([
            _energy(block, self.with_energy).to(self.device),
            *self.references.compare(plain, white, probs, nearest, itself), far])


def fit_witnesses(target: Outputs, *, with_energy: bool, device: torch.device) -> Witnesses:
    """Fit all of them to training rows: two passes over the features, in blocks.

    Labels that are not known are the predicted ones. `with_energy`: whether the judged rows have it
    too. `device` is where to compute.
    """
    if device.type == "mps":  # Apple's GPUs have no float64
        device = torch.device("cpu")
    labels = likeliest(target.probs) if target.labels is None else target.labels.cpu()
    within = fit_gaussian(target.features, labels.to(device))
    keys = row_keys(target.features).cpu()
    references = choose_references(target.features, target.probs, labels, keys, within)
    return Witnesses(target, references, within, labels, keys, with_energy, device)


def likeliest(probs: Tensor) -> Tensor:
    """(N,) int64 on the CPU: the class of largest probability of each row (N, C)."""
    found = torch.empty(len(probs), dtype=torch.int64)
    for block in row_slices(len(probs), BLOCK):
        found[block] = probs[block].argmax(1)
    return found


def _energy(block: Outputs, with_energy: bool) -> Tensor:
    """(B,) float64."""
    if with_energy:
        return block.energy.double()
    return -block.probs.double().amax(1).clamp(min=torch.finfo(torch.float64).tiny).log()
