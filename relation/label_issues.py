"""`find_label_issues` as cleanlab has it: the same call, the same kind of answer, other scores.

    from cleanlab.filter import find_label_issues   ->   from relation import find_label_issues

The issues are the rows that `auto_scores` ranks highest, as many as it estimates to be wrong, of
those for which it suggests another label. numpy, torch or lists in, numpy out, as there.

Label quality of a row with label y and probabilities p, LOWER = more suspect, as in cleanlab
(Northcutt, Jiang, Chuang 2021), for the order of the indices alone:

    self_confidence               p_y
    normalized_margin             p_y - max over c != y of p_c
    confidence_weighted_entropy   p_y / entropy(p): the inverse of cleanlab's, which is turned there
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from relation.auto import auto_scores

ORDERS = ("auto", "self_confidence", "normalized_margin", "confidence_weighted_entropy")
EPS = 1e-6  # entropies and confidences below it count as it


def find_label_issues(labels: Any, pred_probs: Any, features: Any = None, *,
                      return_indices_ranked_by: str | None = None, frac_noise: float = 1.0,
                      n_jobs: int | None = None, verbose: bool = False) -> np.ndarray:
    """Which rows probably carry a wrong label: a mask (N,) bool, or row numbers, worst first.

    labels (N,) whole numbers from 0 below C; pred_probs (N, C); features (N, D), the model's, where
    there are any: without them pred_probs stand for them, and there is less to find.

    return_indices_ranked_by: None for the mask; "self_confidence", "normalized_margin" or
    "confidence_weighted_entropy" as in cleanlab; "auto" for the order of `auto_scores`.
    frac_noise: the share of the issues to return, those that `auto_scores` finds worst.
    n_jobs is accepted and changes nothing: torch's threads are used. verbose shows progress.
    Raises ValueError for anything that does not fit together. Cleanlab's other options belong to
    its own way of counting and are unknown here.
    """
    if return_indices_ranked_by is not None and return_indices_ranked_by not in ORDERS:
        raise ValueError(f"return_indices_ranked_by: expected None or one of {', '.join(ORDERS)}, "
                         f"got {return_indices_ranked_by!r}")
    if not 0 <= frac_noise <= 1:
        raise ValueError(f"frac_noise: expected 0 to 1, got {frac_noise}")
    probs = _floats(pred_probs, "pred_probs")
    given = _labels(labels, probs)
    rows = probs if features is None else _floats(features, "features")
    if len(rows) != len(given):
        raise ValueError(f"features: expected {len(given)} rows, as labels have, got {len(rows)}")
    found = auto_scores(rows, probs, given, progress=verbose)
    order = found.scores.argsort(descending=True, stable=True)
    replaced = order[found.suggested_labels[order] != given[order]]
    issues = replaced[:round(frac_noise * found.n_wrong)]
    if return_indices_ranked_by is None:
        mask = np.zeros(len(given), dtype=bool)
        mask[issues.numpy()] = True
        return mask
    if return_indices_ranked_by == "auto":
        return issues.numpy()
    issues = issues.sort().values  # of equal quality the first row, as in cleanlab
    quality = _quality(probs[issues], given[issues], return_indices_ranked_by)
    return issues[quality.argsort(stable=True)].numpy()


def _quality(probs: Tensor, labels: Tensor, kind: str) -> Tensor:
    """(K,) of rows with probs (K, C) and labels (K,); the lowest is the most suspect."""
    probs = probs.double()
    own = probs.gather(1, labels[:, None])[:, 0]
    if kind == "self_confidence":
        return own
    if kind == "normalized_margin":
        return own - probs.scatter(1, labels[:, None], -torch.inf).amax(1)
    entropy = -torch.special.xlogy(probs, probs).sum(1)
    return own.clamp(min=EPS) / entropy.clamp(min=EPS)


def _floats(values: Any, name: str) -> Tensor:
    """values (N, K) on the CPU, as floats."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if tensor.ndim != 2 or not len(tensor):
        raise ValueError(f"{name}: expected shape (N, {'C' if name == 'pred_probs' else 'D'}), "
                         f"got {tuple(tensor.shape)}")
    tensor = tensor.detach().cpu()
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    if not tensor.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _labels(labels: Any, probs: Tensor) -> Tensor:
    """labels (N,) int64 on the CPU, checked against probs (N, C)."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"labels: expected whole numbers of shape (N,), "
                         f"got {array.dtype} {array.shape}")
    if len(array) != len(probs):
        raise ValueError(f"pred_probs: expected {len(array)} rows, as labels have, "
                         f"got {len(probs)}")
    if array.min() < 0 or array.max() >= probs.shape[1]:
        raise ValueError(f"labels: expected 0 to {probs.shape[1] - 1} (pred_probs have "
                         f"{probs.shape[1]} columns), got {array.min()} to {array.max()}")
    return torch.from_numpy(array.astype(np.int64))
