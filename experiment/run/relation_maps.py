"""Relation maps of chosen rows, with only the points that matter: for a picture, and for the page.

P points of one map, the strongest first; rows are numbers in the full data.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

import relation
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples

FIGURES = 4  # significant digits of a value in JSON: more cannot be seen


@dataclass(frozen=True)
class Map:
    """The relations of row `index` to other rows over the epochs."""

    index: int
    others: Tensor  # (P,) int64
    mean: Tensor  # (P,)
    variance: Tensor  # (P,)
    last: Tensor  # (P,)
    left_out: int  # other rows, all nearer to the origin than those that are kept

    def as_json(self) -> dict[str, int | list]:
        """The same as plain numbers: {"index", "others", "mean", "variance", "last", "left_out"}"""
        return {"index": self.index, "others": self.others.tolist(),
                **{name: [float(f"{value:.{FIGURES}g}") for value in getattr(self, name).tolist()]
                   for name in ("mean", "variance", "last")}, "left_out": self.left_out}


class Maps(NamedTuple):
    """Maps of one training: the names of its epochs, and the samples that their rows are of."""

    epochs: list[str]
    of: list[Map]
    samples: Samples


def maps_of(epochs: Iterable[Samples], rows: Sequence[int], *, kernel: str, points: int,
            progress: bool = False) -> list[Map]:
    """The map of each chosen row, over epochs of the same samples, the last one last.

    Of the other rows the `points` with the largest mean square of their relation are kept. Epochs
    are read one after the other and may be loaded as they are asked for. Raises InputError where
    they do not hold the same rows and labels.
    """
    chosen = torch.tensor(rows, dtype=torch.int64)
    found = relation.relation_map(_checked(epochs), chosen, kernel=kernel, progress=progress)
    others = relation.strongest(found, chosen, points)
    mean, variance, last = (values.gather(1, others) for values in found)
    left_out = found.mean.shape[1] - 1 - others.shape[1]
    return [Map(row, others[at], mean[at], variance[at], last[at], left_out)
            for at, row in enumerate(rows)]


def _checked(epochs: Iterable[Samples]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    labels = None
    for samples in epochs:
        if labels is None:
            labels = samples.labels
        elif not torch.equal(samples.labels, labels):
            raise InputError(f"{samples.source}: expected the same rows and labels in every epoch")
        yield samples.features, samples.probs, samples.labels
