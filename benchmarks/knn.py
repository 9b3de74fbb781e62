"""Nearest neighbours against faiss's exact IndexFlatIP, in one run on the same rows.

    pip install -r requirements-dev.txt
    python benchmarks/knn.py                  # 10,000 rows against 200,000, k = 1000

Both are timed alternately; medians. Prints JSON with the seconds, their ratio, and the share of
rows whose neighbours are the same but for ties (cosines within 1e-6 of the last one).
"""

import json
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from benchmarks import simulate
from experiment.command import arguments
from experiment.command.launch import launch
from relation import knn_scores, relation_topk, unit_rows


def compare(features: Tensor, target: Tensor, *, k: int, repeats: int) -> dict[str, float]:
    """Unit features (N, D) and (M, D); k neighbours of each row."""
    import faiss  # an optional package

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(target.shape[1])
    index.add(target.numpy())
    ours, theirs = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        cosines, neighbours = index.search(features.numpy(), k)
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        knn_scores(features, target, k=k - 1)
        ours.append(time.perf_counter() - started)
    return {"faiss_seconds": statistics.median(theirs), "seconds": statistics.median(ours),
            "ratio": statistics.median(ours) / statistics.median(theirs),
            "same_neighbours": _agreement(features[:500], target, torch.from_numpy(cosines[:500]),
                                          torch.from_numpy(neighbours[:500]))}


def _agreement(features: Tensor, target: Tensor, cosines: Tensor, neighbours: Tensor) -> float:
    k = neighbours.shape[1]
    found, at, _, _ = relation_topk(features, None, target_features=target, kernel="cos", k=k - 1)
    same = 0
    for row in range(len(features)):
        last = float(cosines[row, -1]) + 1e-6
        same += set(at[row][found[row] > last].tolist()) <= set(neighbours[row].tolist()) and \
            set(neighbours[row][cosines[row] > last].tolist()) <= set(at[row].tolist())
    return same / len(features)


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    simulate.add_size_options(parser, n=10_000, targets=200_000, dim=1024, k=1000, repeats=5)
    return parser


def main(args: Namespace) -> None:
    features, target = (unit_rows(torch.cat([block[0] for block in simulate.simulate(
        rows, dim=args.dim, seed=seed)])) for seed, rows in ((1, args.n), (0, args.targets)))
    print(json.dumps({**vars(args), "threads": torch.get_num_threads(),
                      **compare(features, target, k=args.k, repeats=args.repeats)}))


if __name__ == "__main__":
    launch(main, get_args_parser())
