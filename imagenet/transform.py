"""From an image to what the network sees: how it is resized, cropped and normalised.

    mae_*                        shorter side to 256 (bicubic), centre crop of 224, ImageNet's mean
                                 and standard deviation
    any other model of timm      as timm's configuration of the model says
    a folder of transformers     as the folder's own image processor does

Images are converted to RGB before (`data`).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL.Image import Image
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    create_transform,
    resolve_model_data_config,
)
from torch import Tensor, nn

from experiment.files import reading
from imagenet import hub
from imagenet.models import Network


def transform_of(network: Network, model: nn.Module) -> Callable:
    """A function from an RGB image to a tensor (3, H, W), as the module says."""
    if network.is_folder and hub.is_transformers(network.weights):
        return _of_processor(network.weights)
    if network.is_mae:
        return create_transform(input_size=(3, 224, 224), interpolation="bicubic",
                                mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD,
                                crop_pct=224 / 256)
    return create_transform(**resolve_model_data_config(model))


def _of_processor(folder: Path) -> Callable:
    from transformers import AutoImageProcessor  # takes seconds

    with reading.refusing(folder, "no image processor that transformers can load"):
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True,
                                                       trust_remote_code=False)
    return partial(_processed, processor)  # no lambda: it goes to the processes that read images


def _processed(processor: Callable, image: Image) -> Tensor:
    return processor(images=image, return_tensors="pt")["pixel_values"][0]
