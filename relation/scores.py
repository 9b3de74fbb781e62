"""Relation sums and top-k over plain tiles; `sums.py` skips what cannot count in the sums.

A tile is at most `chunk` source rows against as many target rows as fit TILE_ELEMENTS. Held in
memory: one float32 copy of a tile's rows, the tile itself with its temporaries, and the result.
Never an (N, M) array; features and probs may be half precision or memory-mapped, since only the
rows of a tile are ever made float32.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from relation.kernel import Rows, keep_edges, relation
from relation.sums import pruned_sums
from relation.tiles import TILE_ELEMENTS, pair_rows, row_slices, wide_zeros

ENGINES = ("auto", "dense")


@torch.no_grad()
def relation_scores(features: Tensor, probs: Tensor | None, labels: Tensor | None = None, *,
                    target_features: Tensor | None = None, target_probs: Tensor | None = None,
                    target_labels: Tensor | None = None, kernel: str = "cos_p",
                    temperature: float = 4, threshold: float = 0.03, chunk: int = 250,
                    engine: str = "auto", progress: bool = False) -> Tensor:
    """Reliability (N,) float32 of each source row: HIGHER = MORE RELIABLE.

        s_i = sum over all j of sign(r(i, j)) * |r(i, j)|^temperature where |r(i, j)| > threshold

    features (N, D), probs (N, C), labels (N,) and target_* (M, ...) are taken as they come from the
    model; scaling to unit norm is inside. Without a target the set is related to itself, and j = i
    counts. Sums are float64. Kim, Yun, Song 2023, equation 2. `engine` "auto" visits only the pairs
    that may hold an edge (`sums.py`), "dense" every pair: the same scores, for checks.

    Raises ValueError for an unknown kernel or engine, shapes that disagree, temperature <= 0,
    threshold < 0 or chunk < 1.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    if not threshold >= 0:
        raise ValueError(f"threshold: expected a number of at least 0, got {threshold}")
    source, target = pair_rows(features, probs, labels, target_features, target_probs,
                               target_labels, kernel=kernel)
    if engine not in ENGINES:
        raise ValueError(f"engine: expected {' or '.join(ENGINES)}, got {engine!r}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, got {chunk}")
    if engine == "auto":
        sums = pruned_sums(source, target, kernel=kernel, temperature=temperature,
                           threshold=threshold, chunk=chunk, progress=progress)
        if sums is not None:
            return sums.float()
    scores = wide_zeros(len(features), features.device)
    for rows, _, r in _tiles(source, target, kernel=kernel, chunk=chunk, progress=progress):
        scores[rows] += keep_edges(r, temperature=temperature, threshold=threshold).sum(1)
    return scores.float()


@torch.no_grad()
def relation_topk(features: Tensor, probs: Tensor | None, labels: Tensor | None = None, *,
                  target_features: Tensor | None = None, target_probs: Tensor | None = None,
                  target_labels: Tensor | None = None, kernel: str = "cos_p", k: int,
                  temperature: float = 4, threshold: float = 0.03, chunk: int = 250,
                  progress: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k + 1 largest and the k + 1 smallest relations of each source row.

    Returns top_values, top_indices, low_values, low_indices, each (N, k + 1), the most extreme
    first; indices are target rows. Taken before the threshold and the power, which are accepted as
    in `relation_scores` and change nothing. k + 1, because in a
    set related to itself the row's own relation is among the largest. Rows of equal relation come
    in no particular order.

    Raises ValueError as `relation_scores` does, and for k outside 0 .. M - 1.
    """
    source, target = pair_rows(features, probs, labels, target_features, target_probs,
                               target_labels, kernel=kernel)
    (top, top_at), (low, low_at) = extremes(source, target, sides=(True, False), kernel=kernel, k=k,
                                            chunk=chunk, progress=progress)
    return top, top_at, low, low_at


def extremes(source: Rows, target: Rows, *, sides: tuple[bool, ...], kernel: str, k: int,
             chunk: int, progress: bool) -> list[tuple[Tensor, Tensor]]:
    """(values, indices), each (N, k + 1), for each side: True the largest, False the smallest."""
    n, m = len(source.features), len(target.features)
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, got {chunk}")
    if not 0 <= k < m:
        raise ValueError(f"k: expected 0 to {m - 1} (k + 1 of {m} target rows), got {k}")
    device = source.features.device
    found = [(torch.full((n, k + 1), float("-inf" if largest else "inf"), device=device),
              torch.zeros(n, k + 1, dtype=torch.int64, device=device)) for largest in sides]
    for rows, columns, r in _tiles(source, target, kernel=kernel, chunk=chunk, progress=progress):
        for (values, indices), largest in zip(found, sides):
            best, at = r.topk(min(k + 1, r.shape[1]), largest=largest)
            both = torch.cat([values[rows], best], 1)
            both_at = torch.cat([indices[rows], at + columns.start], 1)
            values[rows], kept = both.topk(k + 1, largest=largest)
            indices[rows] = both_at.gather(1, kept)
    return found


def _tiles(source: Rows, target: Rows, *, kernel: str, chunk: int, progress: bool
           ) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (source slice, target slice, r of that tile) for every pair of rows, once."""
    n, m = len(source.features), len(target.features)
    height = min(chunk, TILE_ELEMENTS)
    width = max(1, TILE_ELEMENTS // min(height, n))
    bar = tqdm(total=n * m, desc="relation", unit=" pairs", unit_scale=True, delay=1,
               disable=not progress)
    with bar:
        for columns in row_slices(m, width):
            block = target.take(columns).ready()
            for rows in row_slices(n, height):
                r = relation(source.take(rows).ready(), block, kernel=kernel)
                yield rows, columns, r
                bar.update(r.numel())
