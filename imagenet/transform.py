"""From an image to what the network sees: how it is resized, cropped and normalised.

    mae_*                        shorter side to 256 (bicubic), centre crop of 224, ImageNet's mean
                                 and standard deviation
    any other model of timm      as timm's configuration of the model says
    --image_size, --mean, --std  in place of either
    a folder of transformers     as the folder's own image processor does

Images are converted to RGB before (`data`). A network of one channel gets them in grey, normalised
by the average of the three means and deviations.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL.Image import Image
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    create_transform,
    resolve_model_data_config,
)
from torch import Tensor, nn

from experiment.command.errors import InputError
from experiment.files import reading
from imagenet import hub
from imagenet.models import Network


def transform_of(network: Network, model: nn.Module) -> Callable:
    """A function from an RGB image to a tensor (3, H, W), or (1, H, W), as the module says.

    Raises InputError for a network of other numbers of channels.
    """
    channels = _channels(model)
    if channels not in (1, 3):
        raise InputError(f"{network.source}: takes images of {channels} channels; expected 3, or 1 "
                         f"for grey")
    if network.is_folder and hub.is_transformers(network.weights):
        return _of_processor(network.weights, grey=channels == 1)
    pixels = _pixels(network, model)
    if channels == 3:
        return create_transform(**pixels)
    means = {name: (sum(pixels[name]) / len(pixels[name]),) for name in ("mean", "std")}
    return partial(_grey, create_transform(**pixels | means))


def in_words(network: Network, model: nn.Module) -> str:
    """Size, means and deviations of the images that enter a model of timm."""
    pixels = _pixels(network, model)
    _, height, width = pixels["input_size"]
    mean, std = (" ".join(f"{value:g}" for value in pixels[name]) for name in ("mean", "std"))
    return f"images of {width} x {height}, mean {mean}, std {std}"


def _pixels(network: Network, model: nn.Module) -> dict[str, Any]:
    """The arguments of timm's create_transform."""
    pixels = dict(input_size=(3, 224, 224), interpolation="bicubic", mean=IMAGENET_DEFAULT_MEAN,
                  std=IMAGENET_DEFAULT_STD, crop_pct=224 / 256
                  ) if network.is_mae else resolve_model_data_config(model)
    given = {"mean": network.mean, "std": network.std, "input_size": network.image_size and (
        3, network.image_size, network.image_size)}
    return pixels | {name: value for name, value in given.items() if value is not None}


def _channels(model: nn.Module) -> int:
    """Of the images that enter: of the first convolution."""
    return next((layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)), 3)


def _grey(transform: Callable, image: Image) -> Tensor:
    return transform(image.convert("L"))


def _of_processor(folder: Path, *, grey: bool) -> Callable:
    from transformers import AutoImageProcessor  # takes seconds

    with reading.refusing(folder, "no image processor that transformers can load"):
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True,
                                                       trust_remote_code=False)
    # No lambda: it goes to the processes that read images.
    return partial(_processed, processor, grey)


def _processed(processor: Callable, grey: bool, image: Image) -> Tensor:
    if not grey:
        return processor(images=image, return_tensors="pt")["pixel_values"][0]
    single = len(processor.image_mean or (0,)) == 1
    image = image.convert("L") if single else image.convert("L").convert("RGB")
    return processor(images=image, return_tensors="pt")["pixel_values"][0].mean(0, keepdim=True)
