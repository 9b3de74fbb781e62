"""Relation sums over plain tiles; `sums.py` skips what cannot count in them.

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
from relation.parallel import add_up, rank_and_count
from relation.sums import Checkpoint, Method, Prepared, pruned_sums
from relation.tiles import TILE_ELEMENTS, pair_rows, row_slices, wide_zeros

ENGINES = ("auto", "dense")
# A relation of 1 is 1 + 1e-7 after rounding: powers beyond show that and, in the end, overflow.
LARGEST_TEMPERATURE = 1000


@torch.no_grad()
def relation_scores(features: Tensor, probs: Tensor | None, labels: Tensor | None = None, *,
                    target_features: Tensor | None = None, target_probs: Tensor | None = None,
                    target_labels: Tensor | None = None, target_rows: Tensor | None = None,
                    kernel: str = "cos_p", temperature: float = 4, threshold: float = 0.03,
                    chunk: int = 250, engine: str = "auto", progress: bool = False,
                    checkpoint: Checkpoint | None = None, prepared: Prepared | None = None
                    ) -> Tensor:
    """Reliability (N,) float32 of each source row: HIGHER = MORE RELIABLE.

        s_i = sum over all j of sign(r(i, j)) * |r(i, j)|^temperature where |r(i, j)| > threshold

    features (N, D), probs (N, C), labels (N,) and target_* (M, ...) are taken as they come from the
    model; scaling to unit norm is inside. Without a target the set is related to itself, and j = i
    counts; `target_rows` (K,) int64, each once, chooses rows of the target. Tiles are float32,
    their sums float64. Kim, Yun, Song 2023, equation 2.

    `engine` "auto" visits only the pairs that may hold an edge (`sums.py`), "dense" every pair: the
    same scores, for checks. A killed run resumes from `checkpoint` (not with "dense"). Calls that
    differ in `target_rows` alone share the search for such pairs by one `prepared`. Under
    torch.distributed all processes give the same data, compute their shares, and get all scores.

    Raises ValueError for an unknown kernel or engine, shapes that disagree, rows that the target
    does not have, a temperature that is not above 0 or above 1000, threshold < 0 or chunk < 1.
    """
    if not 0 < temperature <= LARGEST_TEMPERATURE:
        raise ValueError(f"temperature: expected a number above 0, up to {LARGEST_TEMPERATURE}, "
                         f"got {temperature}")
    if not threshold >= 0:
        raise ValueError(f"threshold: expected a number of at least 0, got {threshold}")
    source, target = pair_rows(features, probs, labels, target_features, target_probs,
                               target_labels, kernel=kernel)
    if target_rows is not None:
        _check_rows(target_rows, len(target.features))
    if engine not in ENGINES:
        raise ValueError(f"engine: expected {' or '.join(ENGINES)}, got {engine!r}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, got {chunk}")
    if engine == "auto":
        sums = pruned_sums(source, target, target_rows,
                           Method(kernel, temperature, threshold, chunk),
                           prepared=prepared or Prepared(), progress=progress,
                           checkpoint=checkpoint)
        if sums is not None:
            return sums.float()
    scores = wide_zeros(len(features), features.device)
    for rows, r in _tiles(source, target, target_rows, kernel=kernel, chunk=chunk,
                          progress=progress):
        scores[rows] += keep_edges(r, temperature=temperature, threshold=threshold).sum(1)
    add_up(scores)
    return scores.float()


def _check_rows(rows: Tensor, m: int) -> None:
    if rows.dtype != torch.int64 or rows.ndim != 1 or len(rows) > 0 and not (
            rows.amin() >= 0 and rows.amax() < m and len(rows.unique()) == len(rows)):
        raise ValueError(f"target_rows: expected int64 (K,) of 0 to {m - 1}, each once")


def _tiles(source: Rows, target: Rows, target_rows: Tensor | None, *, kernel: str, chunk: int,
           progress: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield (source slice, r of a tile of theirs) for each pair of this process, once."""
    n = len(source.features)
    m = len(target.features) if target_rows is None else len(target_rows)
    height = min(chunk, TILE_ELEMENTS)
    rank, count = rank_and_count()
    mine = list(row_slices(n, height))[rank::count]
    width = max(1, TILE_ELEMENTS // min(height, n))
    pairs = m * sum(rows.stop - rows.start for rows in mine)
    bar = tqdm(total=pairs, desc="relation", unit=" pairs", unit_scale=True, delay=1,
               disable=not progress)
    with bar:
        for columns in row_slices(m, width):
            block = target.take(columns if target_rows is None else target_rows[columns]).ready()
            for rows in mine:
                r = relation(source.take(rows).ready(), block, kernel=kernel)
                yield rows, r
                bar.update(r.numel())
