"""Connected components by union-find, on whole arrays: parent (N,) never comes after its child."""

import torch
from torch import Tensor


def roots_of(parent: Tensor, rows: Tensor) -> Tensor:
    """The first row of the component of each of `rows` (K,); paths are shortened on the way."""
    roots = parent[rows]
    while not torch.equal(roots, above := parent[roots]):
        roots = above
    parent[rows] = roots
    return roots


def join(parent: Tensor, left: Tensor, right: Tensor) -> None:
    """Join the components of each pair; a parent never comes after its child."""
    while len(left):
        left, right = roots_of(parent, left), roots_of(parent, right)
        apart = left != right
        left, right = left[apart], right[apart]
        parent.scatter_reduce_(0, torch.maximum(left, right), torch.minimum(left, right), "amin")
