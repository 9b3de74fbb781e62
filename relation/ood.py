"""Outliers by the relation to the training set, and by the distance to its nearest rows.

Both return (N,) float32, HIGHER = MORE OUTLYING. N source (test) rows, M target (training) rows;
no labels. Kim, Yun, Song 2023, section 4.
"""

import torch
from torch import Tensor

from relation.parallel import add_up
from relation.scores import relation_scores
from relation.sums import Checkpoint
from relation.tiles import pair_rows
from relation.topk import extremes

EPS = 1e-6  # a row without any kept edge scores 1 / EPS


def detect_ood(features: Tensor, probs: Tensor | None, target_features: Tensor,
               target_probs: Tensor | None, *, kernel: str = "cos_p", temperature: float = 1,
               threshold: float = 0.03, chunk: int = 250, engine: str = "auto",
               progress: bool = False, checkpoint: Checkpoint | None = None) -> Tensor:
    """1 / (s + 1e-6) with s the relation score against the training rows.

    Shapes and errors as in `relation_scores`.
    """
    reliability = relation_scores(features, probs, target_features=target_features,
                                  target_probs=target_probs, kernel=kernel,
                                  temperature=temperature, threshold=threshold, chunk=chunk,
                                  engine=engine, progress=progress, checkpoint=checkpoint)
    return 1 / (reliability + EPS)


@torch.no_grad()
def knn_scores(features: Tensor, target_features: Tensor, *, k: int, chunk: int = 500,
               progress: bool = False) -> Tensor:
    """1 / (v + 1e-6) with v the (k+1)-th largest cosine to the training rows (0 where negative).

    After Sun et al. 2022, who take the distance to the k-th neighbour instead.
    Raises ValueError for k outside 0 .. M - 1.
    """
    source, target = pair_rows(features, None, None, target_features, None, None, kernel="cos")
    farthest = torch.zeros(len(features), device=features.device)  # of the k + 1 nearest
    for rows, [(nearest, _)] in extremes(source, target, sides=(True,), kernel="cos", k=k,
                                         chunk=chunk, progress=progress):
        farthest[rows] = nearest[:, -1]
    add_up(farthest)
    return 1 / (farthest + EPS)
