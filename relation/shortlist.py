"""The few classes that a row of a large set may belong to, and what ridge regression says of them.

N rows, D features, C classes, x and W as in `leave_one_out.py`, f as in `neighbours.py`. Where
N C is large, z = W^T x for all classes is what costs most, twice, and nearly all of it is thrown
away. Here x is turned to the K = DIRECTIONS_OF_MANY directions of largest variance, once, for the
neighbours and for the classes:

    t  = turn^T (x - mean)            f = t scaled to unit norm, float16
    z~ = W^T mean + P t               P (C, K): W^T of what t stands for
    z  = W^T x                        at the given label, the model's and the LIKELY largest z~
    p  = exp(z / T) / (sum of exp(z / T) over the S slots + sum of exp(z~ / T) over the others)

so that z is exact where it counts: at the SLOTS_OF_MANY classes that are asked about. z~ decides
which these are, and how much is left for the others. A row is left out by z_y - h alone,

    N h = 1 + sum_k v_k^1/2 t_k^2 / (v_k + a / N) + sum over the other directions of v / (v + a / N)

with the variances v: the other directions count as in the mean row, so that all h add up to what
they should. h is about D / N, less than a hundredth, so that dividing by 1 - h changes nothing.
The second fit keeps slots, h (scaled to its rows) and the sum over the other classes of the first.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from relation.leave_one_out import LeaveOneOut, row_blocks
from relation.neighbours import Directions, directions
from relation.parallel import in_order
from relation.tiles import row_slices

DIRECTIONS_OF_MANY = 256
SLOTS_OF_MANY = 4
AMONG_MANY = 256  # rows of a class that neighbours are looked for among
LIKELY = 12  # classes of largest z~ whose z is computed
FEW_COLUMNS = 8  # times as many columns as are asked for: beyond, a whole product takes longer
ROWS = 1024  # at a time, of each thread


class Shortlist(NamedTuple):
    """slots (N, S), -1 where there are fewer, the given label first; loo and model (N, S), their
    probabilities; close (N, K): f; leverage (N,): h; rest (N,): log of the sum over other classes.
    """

    slots: Tensor
    loo: Tensor
    model: Tensor
    close: Tensor
    leverage: Tensor
    rest: Tensor

    def again(self, fit: LeaveOneOut, *, progress: bool = False) -> Tensor:
        """Probabilities (N, S) of another fit to some of the same rows, at the slots."""
        found = torch.zeros_like(self.loo)
        scale = (len(found) / fit.rows.weights.sum() * fit.rows.weights).float()

        def compute(rows: slice) -> None:
            slots = self.slots[rows]
            z = products_at(fit.rows.inputs(rows), fit.solution, slots.clamp(min=0))
            z[:, 0] -= scale[rows] * self.leverage[rows]
            z = (z / fit.softmax_temperature).masked_fill(slots < 0, -torch.inf)
            found[rows] = torch.softmax(torch.cat([z, self.rest[rows, None]], 1), 1)[:, :-1]

        _in_blocks(compute, len(found), found.device, "refit", progress=progress)
        return found


def make_shortlist(fit: LeaveOneOut, probs: Tensor, *, progress: bool = False) -> Shortlist:
    """The shortlist of a fit, all rows of weight 1, and of the model's probs (N, C)."""
    n, classes = probs.shape
    device, width = fit.rows.device, min(classes, SLOTS_OF_MANY)
    to = directions(fit, DIRECTIONS_OF_MANY)
    loo, model = (torch.zeros(n, width, device=device) for _ in range(2))
    found = Shortlist(torch.empty(n, width, dtype=torch.int64, device=device), loo, model,
                      torch.zeros(n, max(1, len(to.values)), dtype=torch.float16, device=device),
                      *(torch.empty(n, device=device) for _ in range(2)))
    ridge = fit.penalty / n
    dtype, solution = fit.rows.dtype, fit.solution.double()
    known = ((to.values.pow(0.25)[:, None] * to.vectors.T @ solution).to(dtype),
             (to.mean @ solution).to(dtype),
             (to.values.sqrt() / (to.values + ridge)).to(dtype),
             1 + float((to.lost / (to.lost + ridge)).sum()))
    compute = partial(_fill, found, fit, probs, to, known)
    _in_blocks(compute, n, device, "shortlist", progress=progress)
    return found


def _fill(found: Shortlist, fit: LeaveOneOut, probs: Tensor, to: Directions,
          known: tuple[Tensor, Tensor, Tensor, float], rows: slice) -> None:
    """Fill in the rows; known: P^T (K, C), W^T mean (C,), what t^2 adds to N h, and the rest."""
    x, given = fit.rows.inputs(rows), fit.rows.labels[rows, None]
    own, t = probs[rows].to(x.device), x @ to.turn - to.shift
    classes, width = own.shape[1], found.slots.shape[1]
    product, constant, weights, others = known
    found.close[rows, :t.shape[1]] = torch.nn.functional.normalize(t).half()
    found.leverage[rows] = h = (t.square() @ weights + others) / len(fit.rows.labels)
    rough = torch.addmm(constant, t, product)
    likely = rough.topk(min(LIKELY, classes), dim=1, sorted=False).indices
    of_model = own.topk(min(2, classes), dim=1).indices
    asked = torch.cat([given, of_model, likely], 1)
    z = products_at(x, fit.solution, asked)
    z -= h[:, None] * (asked == given)
    # In turn: the given label, the model's, leave-one-out's, its next, the model's next, its others
    order = z[:, 1 + of_model.shape[1]:].argsort(1, descending=True) + 1 + of_model.shape[1]
    first = torch.zeros_like(of_model[:, :1])
    order = torch.cat([first, first + 1, order[:, :2], first + of_model.shape[1], order[:, 2:]], 1)
    slots, place = first_distinct(asked.gather(1, order), width)
    z = z.gather(1, order.gather(1, place)) / fit.softmax_temperature
    z.masked_fill_(slots < 0, -torch.inf)
    at = slots.clamp(min=0)
    rough.div_(fit.softmax_temperature).scatter_(1, at.where(slots >= 0, given), -torch.inf)
    found.slots[rows] = slots
    found.rest[rows] = rest = rough.logsumexp(1)
    found.loo[rows] = torch.softmax(torch.cat([z, rest[:, None]], 1), 1)[:, :-1]
    found.model[rows] = own.gather(1, at).float().where(slots >= 0, 0.0)


def first_distinct(likely: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The first `width` different entries of each row of (B, K), -1 where there are fewer, and
    their places."""
    seen = (likely[:, :, None] == likely[:, None]).tril(-1).any(2)
    # A stable sort by whether an entry came before keeps the order of the others.
    place = seen.to(torch.int8).argsort(dim=1, stable=True)[:, :width]
    return likely.masked_fill(seen, -1).gather(1, place), place


def products_at(x: Tensor, weights: Tensor, columns: Tensor) -> Tensor:
    """x_i . w_c (B, S) for the columns c (B, S) that each row asks for, weights (D, C)."""
    n, width = columns.shape
    few = width * FEW_COLUMNS < weights.shape[1]
    if x.device.type != "cpu" or not torch.backends.mkl.is_available() or not few:
        return (x @ weights).gather(1, columns)
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, n * width + 1, width), columns.flatten(), x.new_zeros(n * width),
        size=(n, weights.shape[1]), check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, x, weights, beta=0.0).values().view(n, width)


def _in_blocks(compute: Callable[[slice], None], n: int, device: torch.device, what: str, *,
               progress: bool) -> None:
    """compute(rows) for all rows, shared among threads."""
    with warnings.catch_warnings():  # torch says once that sparse tensors are new
        warnings.filterwarnings("ignore", "Sparse CSR tensor")
        pieces = row_blocks(n, what, progress=progress, step=ROWS)
        computed = in_order(compute, list(row_slices(n, ROWS)), device)
        for _ in zip(pieces, computed, strict=True):  # both to their ends
            pass
