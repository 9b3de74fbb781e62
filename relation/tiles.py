"""How the work is cut: row slices, and what a pair of row sets must agree on before it is cut."""

from collections.abc import Iterator

import torch
from torch import Tensor

from relation.kernel import KERNELS, Rows

TILE_ELEMENTS = 2**20  # 4 MiB of float32 relations: a tile and its few temporaries stay in cache


def row_slices(n: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most `step` rows that cover range(n)."""
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def wide_zeros(shape: int | tuple[int, ...], device: torch.device) -> Tensor:
    """An accumulator: float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.zeros(shape, dtype=torch.float32 if device.type == "mps" else torch.float64,
                       device=device)


def pair_rows(features, probs, labels, target_features, target_probs, target_labels, *,
              kernel: str) -> tuple[Rows, Rows]:
    """Source and target as `Rows`; without a target the set is related to itself.

    Raises ValueError when shapes, kinds or kernel do not fit together.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    source = Rows(features, probs, labels)
    _check_rows(source, "", kernel)
    if target_features is None:
        if target_probs is not None or target_labels is not None:
            raise ValueError("target_probs and target_labels need target_features")
        return source, source
    target = Rows(target_features, target_probs, target_labels)
    _check_rows(target, "target_", kernel)
    if (labels is None) != (target_labels is None):
        raise ValueError("expected labels for both source and target, or for neither")
    if features.shape[1] != target_features.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, "
                         f"target_features {target_features.shape[1]}")
    if kernel == "cos_p" and probs.shape[1] != target_probs.shape[1]:
        raise ValueError(f"probs have {probs.shape[1]} classes, "
                         f"target_probs {target_probs.shape[1]}")
    return source, target


def _check_rows(rows: Rows, prefix: str, kernel: str) -> None:
    if rows.features.ndim != 2 or not rows.features.is_floating_point():
        raise ValueError(f"{prefix}features: expected floats of shape (N, D), "
                         f"got {rows.features.dtype} {tuple(rows.features.shape)}")
    if len(rows.features) == 0:
        raise ValueError(f"{prefix}features: expected at least one row, got none")
    if rows.probs is None:
        if kernel == "cos_p":
            raise ValueError(f"{prefix}probs are needed by kernel 'cos_p', not by 'cos'")
    elif rows.probs.ndim != 2 or len(rows.probs) != len(rows.features):
        raise ValueError(f"{prefix}probs: expected shape ({len(rows.features)}, C), "
                         f"got {tuple(rows.probs.shape)}")
    if rows.labels is not None and rows.labels.shape != rows.features.shape[:1]:
        raise ValueError(f"{prefix}labels: expected shape ({len(rows.features)},), "
                         f"got {tuple(rows.labels.shape)}")
