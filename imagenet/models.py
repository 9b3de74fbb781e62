"""The network of an experiment's folder: MAE fine-tuned ViTs, and any model of timm.

The feature is the input of the final linear layer (for MAE the output of `fc_norm` on the mean over
patch tokens), the logits are its output.
"""

import difflib
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from timm.models import clean_state_dict
from torch import Tensor, nn

from experiment.command.errors import InputError, Unavailable, reason_of
from experiment.files import reading
from imagenet import hub

# He et al. 2022 pool over the patch tokens; timm's own weights of these models use the class token.
MAE = {"mae_base": "vit_base_patch16_224", "mae_large": "vit_large_patch16_224"}
# Training checkpoints wrap the weights; an average over training steps comes first where kept.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# Experiments of the other domains, and what runs them.
ELSEWHERE = {"sst2": "python language/detect.py -t sst2",
             "mnli": "python language/detect.py -t mnli", "esc50": "python speech/detect.py"}


class Head(NamedTuple):
    """The final linear layer."""

    weight: Tensor  # (C, D)
    bias: Tensor  # (C,)


@dataclass(frozen=True)
class Network:
    """A model of timm, and the file of its weights (None: timm's own); or a folder with both."""

    name: str
    architecture: str
    weights: Path | None
    needs_head: bool = True  # one linear final layer; without it there are only features

    @property
    def is_folder(self) -> bool:
        return self.weights is not None and self.weights.is_dir()

    @property
    def is_mae(self) -> bool:
        return self.name.startswith("mae")

    @property
    def source(self) -> str:
        return f"timm's {self.architecture}" if self.weights is None else str(self.weights)


def find(folder: Path, epoch: int | None, checkpoint: Path | None) -> Network:
    """The network of an experiment folder; `checkpoint` replaces its own weights.

    mae_base*, mae_large*: checkpoint-<epoch>.pth in the folder; else a name of timm's.
    """
    name = folder.name
    if name in ELSEWHERE:
        raise InputError(f"--name {name}: not an experiment on ImageNet; {name} is run by "
                         f"{ELSEWHERE[name]}")
    if name.startswith("mae"):
        architecture = next((MAE[kind] for kind in MAE if name.startswith(kind)), None)
        if architecture is None:
            raise InputError(f"--name {name}: expected {' or '.join(f'{kind}*' for kind in MAE)}")
        weights = checkpoint or folder / f"checkpoint-{epoch}.pth"
        if not weights.is_file():
            raise InputError(f"{weights}: no such file; download.py downloads the published ones, "
                             f"--checkpoint FILE takes your own")
        return Network(name, architecture, weights)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise InputError(f"--name {name}: not an experiment, nor a model of timm"
                         + (f"; did you mean {', '.join(near)}?" if near else ""))
    return Network(name, name, checkpoint)


def fingerprint(network: Network) -> str:
    """Identifies the weights without building the model: SHA-256 of their file.

    A second for 1 GB, once. For timm's own weights, the name that they are published under.
    """
    if network.weights is None:
        return f"timm/{network.architecture}.{timm.get_pretrained_cfg(network.architecture).tag}"
    if network.is_folder:
        files = sorted([*network.weights.glob("*.safetensors"), *network.weights.glob("*.bin"),
                        *network.weights.glob("*.json")])
        return hashlib.sha256("".join(map(_sha256_now, files)).encode()).hexdigest()
    return _sha256_now(network.weights)


def _sha256_now(path: Path) -> str:
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def read_head(network: Network) -> Head:
    """The final layer's weights, without building the model if they are in a file."""
    if network.weights is None or network.is_folder:
        return head_of(_linear(build(network), network))
    layer = timm.get_pretrained_cfg(network.architecture).classifier
    if not isinstance(layer, str):  # a tuple of several
        raise _not_one_layer(network, layer)
    state = _read_state(network.weights)
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 2:
        raise InputError(f"{network.weights}: expected the linear layer {layer}.weight of a "
                         f"fine-tuned {network.architecture}, found "
                         f"{'none' if weight is None else f'shape {tuple(weight.shape)}'}")
    bias = state.get(f"{layer}.bias", torch.zeros(len(weight)))
    return Head(weight.float(), bias.float())


def head_of(classifier: nn.Linear) -> Head:
    weight, bias = classifier.weight.detach(), classifier.bias
    return Head(weight, torch.zeros(len(weight)) if bias is None else bias.detach())


def build(network: Network) -> nn.Module:
    """The model with its weights, in eval mode, on the CPU."""
    if network.weights is None:
        model = _from_timm(network)
    else:
        model = hub.load(network.weights) if network.is_folder else _from_file(network)
    if network.needs_head:
        _linear(model, network)
    return model.eval()


def widths(model: nn.Module) -> tuple[int, int]:
    """D of the features and C of the final layer, 0 if that is not one linear layer."""
    classifier = model.get_classifier()
    if isinstance(classifier, nn.Linear):
        return classifier.in_features, classifier.out_features
    return model.head_hidden_size, 0


def _classes(network: Network, state: dict[str, Tensor]) -> int:
    """C of weights that may lack a head, or have two: 0 without."""
    layer = timm.get_pretrained_cfg(network.architecture).classifier
    return len(state.get(f"{layer if isinstance(layer, str) else layer[0]}.weight", ()))


def _from_file(network: Network) -> nn.Module:
    state = _read_state(network.weights)
    pool = {"global_pool": "avg"} if network.is_mae else {}
    classes = len(read_head(network).weight) if network.needs_head else _classes(network, state)
    model = timm.create_model(network.architecture, num_classes=classes, **pool)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if found != expected:
        differing = [key for key in expected | found if expected.get(key) != found.get(key)]
        key = differing[0]
        raise InputError(
            f"{network.weights}: not weights of {network.architecture}: {len(differing)} entries "
            f"differ, the first {key} (expected {expected.get(key, 'none')}, got "
            f"{found.get(key, 'none')})")
    model.load_state_dict(state)
    return model


def features_and_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """images (N, 3, H, W) -> (N, D), (N, C); C is 0 without one linear final layer."""
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    has_head = widths(model)[1] > 0
    return features, model.get_classifier()(features) if has_head else features[:, :0]


@functools.cache  # three splits ask for it
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """Of the file as it is at this size and time of change."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_timm(network: Network) -> nn.Module:
    if not timm.get_pretrained_cfg(network.architecture).has_weights:
        raise InputError(f"--name {network.name}: timm has no weights for it; give a file of your "
                         f"own with --checkpoint FILE")
    try:
        return timm.create_model(network.architecture, pretrained=True)
    except OSError as error:  # raised by the hub's client, too, without a connection
        # For the user's images a network in a folder will do, too.
        folder = "" if network.needs_head else ", or as -n a folder that timm or transformers saved"
        raise Unavailable(
            f"--name {network.name}: timm's weights could not be downloaded "
            f"({reason_of(error)}); fetch them elsewhere and give --checkpoint "
            f"FILE{folder}") from error


def _linear(model: nn.Module, network: Network) -> nn.Linear:
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise _not_one_layer(network, type(classifier).__name__)
    return classifier


def _not_one_layer(network: Network, found: object) -> InputError:
    return InputError(f"--name {network.name}: expected a model with one linear final layer, got "
                      f"{found}")


def _read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of timm, the published code or ours, memory-mapped."""
    content = reading.load_safetensors(path)[0] if path.suffix == ".safetensors" else \
        reading.load(path)
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPERS if content.get(key) is not None), content)
    if not isinstance(content, dict) or not content \
            or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: expected a dict of weights, by itself or under one of "
                         f"{', '.join(WRAPPERS)}")
    return clean_state_dict(content)
