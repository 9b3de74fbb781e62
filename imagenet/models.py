"""The network of an experiment's folder: MAE fine-tuned ViTs, and any model of timm.

The feature is the input of the final linear layer (for MAE the output of `fc_norm` on the mean over
patch tokens), the logits are its output.
"""

import difflib
import functools
import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from experiment.command.errors import InputError, Unavailable, reason_of
from experiment.files import reading
from imagenet import checkpoints, heads, hub

# He et al. 2022 pool over the patch tokens; timm's own weights of these models use the class token.
MAE = {"mae_base": "vit_base_patch16_224", "mae_large": "vit_large_patch16_224"}
PIXELS = ("image_size", "mean", "std")  # fields of Network, and options
# Experiments of the other domains, and what runs them.
ELSEWHERE = {"sst2": "python language/detect.py -t sst2",
             "mnli": "python language/detect.py -t mnli", "esc50": "python speech/detect.py"}


@dataclass(frozen=True)
class Network:
    """A model of timm, and the file of its weights (None: timm's own); or a folder with both."""

    name: str
    architecture: str
    weights: Path | None
    needs_head: bool = True  # a linear final layer; without it there are only features
    image_size: int | None = None  # pixels a side, and means and deviations of the channels (R, G,
    mean: tuple[float, ...] | None = None  # B), of 0 to 1; None: timm's for the architecture
    std: tuple[float, ...] | None = None

    @property
    def is_folder(self) -> bool:
        return self.weights is not None and self.weights.is_dir()

    @property
    def is_mae(self) -> bool:
        return self.name.startswith("mae")

    @property
    def images(self) -> str:
        """The architecture, and what images were prepared for it, where not as timm says."""
        given = [f"{name} {value}" for name in PIXELS if (value := getattr(self, name)) is not None]
        return ", ".join([self.architecture, *given])

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


def read_head(network: Network) -> heads.Head:
    """The final layer's weights, without building the model if they are in a file."""
    layers = () if network.is_folder else _final_layers(network)
    if network.weights is None or len(layers) != 1:
        return heads.head_of(build(network))
    state, layer = checkpoints.read(network.weights), layers[0]
    if f"{layer}.weight" not in state:
        state = _from_file(network, state).fitted.state  # under other names, if at all
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 2:
        raise _no_head(network, layer, weight)
    return heads.Head(weight.float(), state.get(f"{layer}.bias", torch.zeros(len(weight))).float())


def build(network: Network) -> nn.Module:
    """The model with its weights, in eval mode, on the CPU."""
    return load(network)[0]


def load(network: Network) -> tuple[nn.Module, tuple[str, ...]]:
    """The model as by `build`, and what was assumed of the file of its weights, in words."""
    assumed: tuple[str, ...] = ()
    if network.weights is None:
        model = _from_timm(network)
    elif network.is_folder:
        model = hub.load(network.weights)
    else:
        model, fitted = _from_file(network, checkpoints.read(network.weights))
        assumed = fitted.assumed
    if network.needs_head and not heads.linear_layers(model):
        raise _not_linear(network, type(model.get_classifier()).__name__)
    return model.eval(), assumed


class FromFile(NamedTuple):
    model: nn.Module
    fitted: checkpoints.Fitted


def _from_file(network: Network, state: dict[str, Tensor]) -> FromFile:
    layers = _final_layers(network)
    guess = _classes(state, layers)  # right, unless the file has other names
    model = _created(network, num_classes=guess)
    try:
        fitted = checkpoints.fit(network.weights, state, model, layers)
    except InputError:
        if not network.is_mae or network.needs_head:
            raise
        # As MAE pre-trains them: with the norm of the class token, and without a head.
        network = replace(network, name=network.architecture)
        model = _created(network, num_classes=guess)
        fitted = checkpoints.fit(network.weights, state, model, layers)
        fitted = fitted._replace(assumed=("pre-trained, so the feature is the class token's",
                                          *fitted.assumed))
    classes = _classes(fitted.state, layers)
    if not classes and network.needs_head:
        raise _no_head(network, layers[0], fitted.state.get(f"{layers[0]}.weight"))
    if classes != guess:
        model = _created(network, num_classes=classes)
    loaded = {key: fitted.state.get(key, torch.zeros_like(value))  # a layer may have no bias
              for key, value in model.state_dict().items()}
    with reading.refusing(network.weights, f"not weights of {network.architecture}"):
        model.load_state_dict(loaded)
    return FromFile(model, fitted)


def _classes(state: dict[str, Tensor], layers: tuple[str, ...]) -> int:
    """Rows of the final layers, 0 if they are not all linear and there."""
    weights = [state.get(f"{layer}.weight") for layer in layers]
    linear = bool(weights) and all(weight is not None and weight.ndim == 2 for weight in weights)
    return len(weights[0]) if linear else 0


def _no_head(network: Network, layer: str, weight: Tensor | None) -> InputError:
    return InputError(f"{network.weights}: expected the linear layer {layer}.weight of a "
                      f"fine-tuned {network.architecture}, found "
                      f"{'none' if weight is None else f'shape {tuple(weight.shape)}'}")


def _final_layers(network: Network) -> tuple[str, ...]:
    """What timm calls the final layers of the architecture."""
    named = timm.get_pretrained_cfg(network.architecture).classifier
    return named if isinstance(named, tuple) else (named,) if named else ()


def _created(network: Network, **options: Any) -> nn.Module:
    """A model of timm for images of this size, where it has to know."""
    if network.is_mae:
        options["global_pool"] = "avg"
    create = partial(timm.create_model, network.architecture, **options)
    if network.image_size is None:
        return create()
    try:
        return create(img_size=network.image_size)
    except TypeError:  # convolutions take images of any size
        return create()
    except (AssertionError, ValueError, RuntimeError) as error:
        raise InputError(f"--image_size {network.image_size}: {network.architecture} takes no such "
                         f"images ({reason_of(error)})") from error




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
        return _created(network, pretrained=True)
    except OSError as error:  # raised by the hub's client, too, without a connection
        # For the user's images a network in a folder will do, too.
        folder = "" if network.needs_head else ", or as -n a folder that timm or transformers saved"
        raise Unavailable(
            f"--name {network.name}: timm's weights could not be downloaded "
            f"({reason_of(error)}); fetch them elsewhere and give --checkpoint "
            f"FILE{folder}") from error


def _not_linear(network: Network, found: object) -> InputError:
    return InputError(f"--name {network.name}: expected a model with a linear final layer, got "
                      f"{found}")
