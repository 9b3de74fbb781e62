"""The published noisy labels: a few of the labels that a good model is sure of are made wrong.

N rows, C classes. Kim, Yun, Song 2023, section 5; the model there is a RoBERTa-Large at epoch
4 on the clean labels, by a schedule that is not stated.
"""

import math

import torch
from torch import Tensor

from experiment.command.errors import InputError

SURE = 0.6  # a label is taken as right where its probability is above this
EVERY = 10  # of the rows with such labels, every tenth is changed
RATIO = 0.1
SEED = 0


def noisy_labels(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (N,) with every tenth sure one changed, and the changed rows, ascending.

        sure    = rows, in order, with probs[row, labels[row]] > 0.6
        changed = sure[0], sure[10], sure[20], ...     at most ceil(0.1 * number of sure rows)
        new     = (old + d) mod C, with d drawn evenly from 1 .. C - 1, always with the same seed

    For two classes that is a flip. probs (N, C), labels (N,) int64. Raises InputError where no row
    is sure, or for a single class.
    """
    classes = probs.shape[1]
    if classes < 2:
        raise InputError("noisy labels: expected at least two classes, got one")
    own = probs.gather(1, labels[:, None])[:, 0]
    sure = (own > SURE).nonzero()[:, 0]
    if len(sure) == 0:
        raise InputError(f"noisy labels: expected rows whose label has a probability above {SURE}, "
                         f"got none in {len(labels)}; was the model trained on these labels?")
    changed = sure[::EVERY][:math.ceil(RATIO * len(sure))]
    # The stream of torch.manual_seed(0), without touching the global one.
    steps = torch.randint(1, classes, (len(changed),),
                          generator=torch.Generator().manual_seed(SEED))
    targets = labels.clone()
    targets[changed] = (labels[changed] + steps) % classes
    return targets, changed
