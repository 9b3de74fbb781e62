"""Weights in a file, under the names that timm gives the layers of an architecture.

Training code wraps them in a dict and puts prefixes before the names: of DataParallel, Lightning,
or a module of one's own. Some architectures have other names where they were published; timm
converts those. The body of the network must be there in full, with the shapes that it has; what
else the file holds is only left out if no part of the body is called so.
"""

import math
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from timm.models import clean_state_dict
from torch import Tensor, nn

from experiment.command.errors import InputError
from experiment.files import checks, reading
from experiment.inputs.own_data import abbreviated

# An average over training steps comes first where kept. Otherwise the one dict of tensors.
WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "teacher", "state_dict",
            "model_state_dict", "model", "net", "network", "module", "weights", "params")
# Tried where timm has to convert the names; others are found by a name of timm's.
PREFIXES = ("", "model.", "net.", "backbone.", "encoder.")
COUNTER = "num_batches_tracked"  # of BatchNorm; older files lack it, and inference needs none

Shapes = Mapping[str, tuple[int, ...]]
State = dict[str, Tensor]


class Fitted(NamedTuple):
    """Weights by timm's names, and what was assumed to find them, in words."""

    state: State
    assumed: tuple[str, ...] = ()


def read(path: Path) -> State:
    """The weights in a checkpoint of timm, the published code or one's own, memory-mapped."""
    content = reading.load_safetensors(path)[0] if path.suffix == ".safetensors" else \
        reading.load(path)
    while isinstance(content, dict) and not _tensors(content):
        inner = [key for key, value in content.items() if isinstance(value, dict)]
        known = [key for key in WRAPPERS if key in inner]
        full = [key for key in inner if _tensors(content[key])]
        only = full if len(full) == 1 else inner if len(inner) == 1 else []
        if not known and not only:
            break
        content = content[(known or only)[0]]
    if not isinstance(content, dict) or not _tensors(content):
        raise InputError(f"{path}: expected a dict of weights, by itself or under one of "
                         f"{', '.join(WRAPPERS)}")
    return clean_state_dict(_tensors(content))


def fit(path: Path, state: State, model: nn.Module, heads: Collection[str]) -> Fitted:
    """The weights for `model`, whose final layers `heads` may be missing.

    Raises InputError if they are of another network, or of the same one twice.
    """
    body = {key: tuple(value.shape) for key, value in model.state_dict().items()
            if key.rpartition(".")[0] not in heads}
    needed = {key: shape for key, shape in body.items() if not key.endswith(COUNTER)}
    anchor = max(needed, key=len)
    prefixes = {key.removesuffix(anchor) for key in state if key.endswith(anchor)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    fitting = {}
    for prefix in sorted({*prefixes, *PREFIXES}):
        below = {key[len(prefix):]: value for key, value in state.items()
                 if key.startswith(prefix)}
        if not _differing(needed, below, heads):
            fitting[prefix] = Fitted(below)
        elif (renamed := _converted(below, model, needed, heads)) is not None:
            fitting[prefix] = Fitted(renamed, ("names of layers converted by timm",))
    if not fitting:
        raise _other_network(path, model, needed, state, heads, prefixes)
    if "" not in fitting and len(fitting) > 1:
        raise InputError(f"{path}: weights of this network under {' and under '.join(fitting)}; "
                         f"expected one, so save that by itself")
    prefix = min(fitting)
    chosen, assumed = fitting[prefix]
    kept = {key: value for key, value in chosen.items()
            if key in body or key.rpartition(".")[0] in heads}
    other = sorted({key.partition(".")[0] for key in chosen if key not in kept}
                   | {key for key in state if not key.startswith(prefix)})
    kept |= {key: torch.tensor(0) for key in body if key.endswith(COUNTER) and key not in kept}
    return Fitted(kept, (*((f"weights under {prefix!r}",) if prefix else ()), *assumed,
                         *((f"left out: {abbreviated(other)}",) if other else ())))


def _tensors(content: dict) -> State:
    """Without an epoch or the like beside the weights."""
    return {key: value for key, value in content.items()
            if isinstance(key, str) and isinstance(value, Tensor)}


def _differing(needed: Shapes, state: State, heads: Collection[str]) -> list[str]:
    """Parts of the body that are not there or not of its shape, and further ones beside them, as a
    deeper network of the same kind has them."""
    parts = {key.partition(".")[0] for key in needed} - {head.partition(".")[0] for head in heads}
    differing = [key for key, shape in needed.items()
                 if key not in state or tuple(state[key].shape) != shape]
    return differing + [key for key in state if key not in needed and not key.endswith(COUNTER)
                        and key.partition(".")[0] in parts]


def _converted(state: State, model: nn.Module, needed: Shapes, heads: Collection[str]
               ) -> State | None:
    """By timm's names, if it knows those of the file, and resizes nothing."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not state:
        return None
    try:
        renamed = convert(dict(state), model)
    except checks.BROKEN:  # it expects other names than these
        return None
    if not isinstance(renamed, dict) or _differing(needed, renamed, heads):
        return None
    sizes = {value.numel() for value in state.values()}
    resized = [key for key in needed if ("pos" in key or "patch_embed" in key)
               and renamed[key].numel() not in sizes]
    return None if resized else renamed


def _other_network(path: Path, model: nn.Module, needed: Shapes, state: State,
                   heads: Collection[str], prefixes: Collection[str]) -> InputError:
    prefix = max(prefixes, default="", key=lambda prefix: sum(
        prefix + key in state for key in needed))
    found = {key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)}
    differing = _differing(needed, found, heads)
    key = differing[0]
    shape = tuple(found[key].shape) if key in found else "none"
    size = _trained_at(model, shape, needed[key]) if key in needed and key in found and all(
        "pos" in name for name in differing) else ""
    return InputError(
        f"{path}: not weights of {model.pretrained_cfg['architecture']}: {len(differing)} entries "
        f"differ, the first {key} (expected {needed.get(key, 'none')}, got {shape}){size}")


def _trained_at(model: nn.Module, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """The size of the images that a network with position embeddings of this shape was for."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if grid is None or len(found) != 3 or len(expected) != 3:
        return ""
    side = math.isqrt(found[1] - expected[1] + grid[0] * grid[1])
    size = side * model.patch_embed.patch_size[0]
    return f"; if it was trained on images of {size} x {size}, give --image_size {size}"
