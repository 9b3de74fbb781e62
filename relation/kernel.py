"""The relation r(i, j) between a source row i and a target row j, written plainly.

N source rows, M target rows, D feature width, C classes. With f the feature scaled to unit L2 norm,
p the probability vector and y the label (Kim, Yun, Song 2023, section 3):

    k(i, j) = max(0, f_i . f_j)                    kernel "cos"
    k(i, j) = max(0, f_i . f_j) * (p_i . p_j)      kernel "cos_p"
    r(i, j) = k if y_i == y_j else -k              without labels r = k

Everything that is faster must agree with these few lines.
"""

from typing import NamedTuple

import torch
from torch import Tensor

KERNELS = ("cos_p", "cos")


class Rows(NamedTuple):
    """One side of the relation: features (N, D), probs (N, C) or None, labels (N,) or None."""

    features: Tensor
    probs: Tensor | None
    labels: Tensor | None

    def take(self, rows: slice | Tensor) -> "Rows":
        """The chosen rows, as stored; a slice copies nothing."""
        return Rows(*(None if field is None else field[rows] for field in self))

    def ready(self) -> "Rows":
        """The same rows with unit features and float32 probabilities, as `relation` takes them."""
        return Rows(unit_rows(self.features),
                    None if self.probs is None else self.probs.float(), self.labels)


def unit_rows(features: Tensor) -> Tensor:
    """Scale each row of (N, D) to unit L2 norm, in float32. A zero row stays zero.

    The largest entry is divided out first, so that rows of 1e30 or 1e-30 neither overflow nor
    vanish when they are squared.
    """
    features = features.float()
    largest = features.abs().amax(1, keepdim=True)
    features = features / torch.where(largest > 0, largest, 1.0)
    norm = features.norm(dim=1, keepdim=True)
    return features.div_(torch.where(norm > 0, norm, 1.0))


def inverse_norm(rows: Tensor) -> Tensor:
    """1 / |x| (B,) of rows (B, D); 0 for a row of zeros."""
    norm = rows.norm(dim=1)
    return torch.where(norm > 0, 1 / norm, 0)


def relation(source: Rows, target: Rows, *, kernel: str = "cos_p") -> Tensor:
    """r (N, M) between every row of `source` and every row of `target`, both `ready()`."""
    k = (source.features @ target.features.T).clamp_(min=0)
    if kernel == "cos_p":
        k *= source.probs @ target.probs.T
    if source.labels is not None:
        k = torch.where(source.labels[:, None] == target.labels[None, :], k, -k)
    return k


def keep_edges(r: Tensor, *, temperature: float, threshold: float) -> Tensor:
    """sign(r) * |r|^temperature where |r| > threshold, else 0: what an edge adds to a score."""
    size = r.abs()
    return torch.where(size > threshold, r.sign() * size.pow(temperature), 0.0)
