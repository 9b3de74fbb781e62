"""Samples: what every domain provides, checked once.

N rows, D feature width, C classes.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from experiment.command.errors import InputError
from experiment.inputs.media import Media

BLOCK = 8192  # rows at a time, so that memory-mapped tensors need not fit
CHECKED = 1024  # rows checked at a time: they stay in cache for a few passes
# Tolerance of the sum of a probability vector: half precision rounds each of C entries.
SUM_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 1e-2,
                 torch.bfloat16: 2e-2}
PER_ROW = ("features", "probs", "labels", "logits", "is_noisy", "is_ood", "group", "ids", "index",
           "is_zero")
HASHED = ("features", "probs")  # and the labels, which are small: the fingerprint's order

KEEP, RELABEL, DROP = "keep", "relabel", "drop"  # decisions about rows
DROPPED = "dropped, as was decided"  # why such a row is left out


class LeftOut(NamedTuple):
    """A row of the user's data that could not be used: `own_data.Rows` leaves it out."""

    index: int  # row number in the data
    name: str
    reason: str


class Reviewed(NamedTuple):
    """What a person decided about a row, as decisions.csv has it. Kept and relabelled rows are
    settled: their labels, which are the new ones, are taken for right. Dropped rows take no part.
    """

    index: int  # row number in the data
    id: str
    given_label: str  # in the data
    decision: str
    new_label: str


@dataclass(frozen=True)
class Samples:
    """A trained network's outputs for N rows, and what is known about the rows.

    Tensors may be memory-mapped. Construction checks every field and raises InputError with
    `source` (a file or folder) in its message.
    """

    source: str
    features: Tensor  # (N, D) as the model returns them, not normalised
    probs: Tensor  # (N, C)
    labels: Tensor | None = None  # (N,) int64 given labels
    logits: Tensor | None = None  # (N, C)
    is_noisy: Tensor | None = None  # (N,) bool, where the truth is known
    is_ood: Tensor | None = None  # (N,) bool, where the truth is known
    group: Sequence[str] | None = None  # (N,) the OOD set of each row
    ids: Sequence[str] | None = None  # (N,) file names or the like
    class_names: Sequence[str] | None = None  # (C,)
    weight: Tensor | None = None  # (C, D) of the linear head
    bias: Tensor | None = None  # (C,)
    extra: dict[str, Sequence[str]] = field(default_factory=dict)  # further columns of scores.csv
    content: dict[str, Sequence[str]] = field(default_factory=dict)  # filepath or text, to export
    notes: tuple[str, ...] = ()  # lines for the screen
    own_data: bool = False  # the user's, not an experiment's: suspects are listed by auto
    out_of_sample: str = ""  # how probs were made, if without the row's own label
    left_out: tuple[LeftOut, ...] = ()
    reviewed: tuple[Reviewed, ...] = ()
    held_out: bool | None = None  # the network was trained on other rows; None: not known
    # Row number in the full data, as in `index` -> what to show; raises InputError for one row.
    media: Callable[[int], Media] | None = None
    index: Tensor | None = None  # (N,) row numbers in the full data; None: from 0 on
    progress: InitVar[bool] = False  # a bar while gigabytes are checked
    is_zero: Tensor = field(init=False)  # (N,) bool: features of zeros
    _digest: Any = field(init=False, repr=False)  # hashlib's, of HASHED

    def __post_init__(self, progress: bool) -> None:
        _check(self)
        is_zero, digest = _read(self, progress=progress)
        object.__setattr__(self, "is_zero", is_zero)
        object.__setattr__(self, "_digest", digest)
        for entry in fields(self):  # a saved nn.Parameter would track gradients
            if isinstance(value := getattr(self, entry.name), Tensor) and value.requires_grad:
                object.__setattr__(self, entry.name, value.detach())
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(len(self.features)))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over features, probabilities and labels as they were checked, with their kinds
        and shapes."""
        digest = self._digest.copy()
        if self.labels is not None:
            digest.update(_kind("labels", self.labels))
            digest.update(_bytes(self.labels))
        return digest.hexdigest()

    def class_name(self, label: int) -> str:
        return str(int(label)) if self.class_names is None else self.class_names[int(label)]

    @property
    def decisions(self) -> list[str]:
        """(N,) keep, relabel, or "" for a row that nobody has reviewed."""
        known = {row.index: row.decision for row in self.reviewed}
        return [known.get(row, "") for row in self.index.tolist()]

    @property
    def is_settled(self) -> Tensor:
        """(N,) bool: which rows have been reviewed."""
        return torch.isin(self.index, torch.tensor([row.index for row in self.reviewed],
                                                   dtype=torch.int64))

    def every(self, hop: int) -> "Samples":
        """Rows 0, hop, 2 hop, …"""
        return self if hop == 1 else self.take(slice(None, None, min(hop, len(self))))

    def take(self, rows: slice | Tensor) -> "Samples":
        """Some rows. Row numbers copy what they choose, a slice does not."""
        def chosen(values: Any) -> Any:
            if values is None:
                return None
            if isinstance(rows, slice) or isinstance(values, Tensor):
                return values[rows]
            return [values[row] for row in rows.tolist()]

        columns = {name: {key: chosen(texts) for key, texts in getattr(self, name).items()}
                   for name in ("extra", "content")}
        digest = self._digest.copy()  # other rows of the same labels are other data
        digest.update(_kind("rows", index := self.index[rows]))
        digest.update(index.numpy().tobytes())  # a slice of one row keeps its stride
        return self.derived(_digest=digest, **columns,
                            **{name: chosen(getattr(self, name)) for name in PER_ROW})

    def derived(self, **changes: Any) -> "Samples":
        """A copy with other fields, made of these: nothing is checked again, in passes over GBs."""
        derived = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(derived, name, value)
        return derived


def probs_of(logits: Tensor) -> Tensor:
    """softmax of logits (N, C) in float32."""
    return torch.softmax(logits.float(), dim=1)


def _check(samples: Samples) -> None:
    def refuse(problem: str) -> None:
        raise InputError(f"{samples.source}: {problem}")

    for name in ("features", "probs", "logits", "weight", "bias"):
        tensor = getattr(samples, name)
        dims = 1 if name == "bias" else 2
        if tensor is not None and (tensor.ndim != dims or tensor.dtype not in SUM_TOLERANCE):
            refuse(f"{name}: expected floats with {dims} dimension{'s' * (dims > 1)}, got "
                   f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}")
    (n, dim), classes = samples.features.shape, samples.probs.shape[1]
    if n == 0 or dim == 0 or classes == 0:
        refuse(f"expected at least one row, one feature and one class, got features {(n, dim)} "
               f"and {classes} classes")
    shapes = {"probs": (n, classes), "logits": (n, classes), "labels": (n,), "is_noisy": (n,),
              "is_ood": (n,), "index": (n,), "weight": (classes, dim), "bias": (classes,)}
    for name, expected in shapes.items():
        tensor = getattr(samples, name)
        if tensor is not None and tuple(tensor.shape) != expected:
            refuse(f"{name}: expected shape {expected} beside features {(n, dim)} and {classes} "
                   f"classes, got {tuple(tensor.shape)}")
    texts_of = {"group": (samples.group, n), "ids": (samples.ids, n),
                "class_names": (samples.class_names, classes),
                **{name: (texts, n)
                   for name, texts in (samples.extra | samples.content).items()}}
    for name, (texts, expected) in texts_of.items():
        if texts is not None and len(texts) != expected:
            refuse(f"{name}: expected {expected} entries, got {len(texts)}")
    if samples.labels is not None:
        if samples.labels.dtype != torch.int64:
            refuse(f"labels: expected int64, got {samples.labels.dtype}")
        wrong = (samples.labels < 0) | (samples.labels >= classes)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            refuse(f"labels: expected 0 to {classes - 1}, got {int(samples.labels[row])} "
                   f"in row {row}")


def _read(samples: Samples, *, progress: bool) -> tuple[Tensor, Any]:
    """Check all values; which features are zero (N,), and the digest of HASHED.

    Gigabytes are read once: a thread of its own adds a block to the digest, which takes the most
    time, while the block is checked.
    """
    tensors = {name: tensor for name in ("features", "logits", "probs", "weight", "bias")
               if (tensor := getattr(samples, name)) is not None}
    is_zero, digest = torch.empty(len(samples), dtype=torch.bool), hashlib.sha256()
    with ThreadPoolExecutor(1) as beside, \
            tqdm(total=sum(tensor.nbytes for tensor in tensors.values()), desc="checking",
                 unit="B", unit_scale=True, delay=1, disable=not progress) as bar:
        for name, tensor in tensors.items():
            if name in HASHED:
                digest.update(_kind(name, tensor))
            for start, block in zip(range(0, len(tensor), CHECKED), tensor.split(CHECKED)):
                hashed = beside.submit(digest.update, _bytes(block)) if name in HASHED else None
                _check_block(samples.source, name, start, block)
                if name == "features":  # zero as float32 holds them
                    is_zero[start:start + CHECKED] = _zero_rows(block.float())
                if hashed is not None:
                    hashed.result()
                bar.update(block.nbytes)
    return is_zero, digest


def _kind(name: str, tensor: Tensor) -> bytes:
    return f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()


def _bytes(block: Tensor) -> Any:
    return block.detach().cpu().contiguous().view(torch.uint8).numpy()


def _zero_rows(block: Tensor) -> Tensor:
    first = block[:, 0] == 0  # of most rows that tells all
    if not first.any():
        return first
    return (block == 0).all(1)


def _check_block(source: str, name: str, start: int, block: Tensor) -> None:
    """Rows from `start` on. Smallest and largest entry tell of NaN and infinity, too, at the rate
    at which memory is read; isfinite takes twenty times as long."""
    def refuse(problem: str) -> None:
        raise InputError(f"{source}: {problem}")

    smallest, largest = block.float().aminmax()
    if not (smallest.isfinite() and largest.isfinite()):
        row = int((~block.float().isfinite()).nonzero()[0][0])
        refuse(f"{name}: expected " + (
            "numbers that float32 can hold, got larger ones" if block[row].isfinite().all()
            else "finite numbers, got NaN or infinity") + f" in row {start + row}")
    if name == "probs":
        total = block.float().sum(1)
        wrong = (total - 1).abs() > SUM_TOLERANCE[block.dtype]
        if smallest < 0:
            wrong |= (block < 0).any(1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            refuse(f"probs: expected probabilities that sum to 1, got a sum of "
                   f"{float(total[row]):.6g} and a smallest entry of {float(block[row].min()):.3g} "
                   f"in row {start + row}")
