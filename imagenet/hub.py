"""Image networks in a local folder, as timm or Hugging Face's transformers save them.

All of them get the three methods of timm that extraction uses: `forward_features`, `forward_head`
and `get_classifier`. The feature is the input of the final linear layer. A folder without weights
for that layer is a backbone without a head; its feature is the same.
"""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs.own_data import class_names_of

CONFIG = "config.json"
WRAPPER = "timm_wrapper"  # a model of timm, saved by transformers


class HubModel(nn.Module):
    """An image classifier of transformers with timm's methods."""

    def __init__(self, model: nn.Module, finals: Sequence[nn.Linear], *, has_head: bool) -> None:
        super().__init__()
        self.model, self.finals, self.has_head = model, tuple(finals), has_head
        self.head_hidden_size = sum(layer.in_features for layer in self.finals)

    def forward_features(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W) -> (N, D), the input of the final layer; of several side by side."""
        entered = {}
        handles = [layer.register_forward_pre_hook(
            lambda layer, inputs: entered.update({layer: inputs[0].flatten(1)}))
            for layer in self.finals]
        try:
            self.model(pixel_values=images)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([entered[layer] for layer in self.finals], 1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        if pre_logits:
            return features
        parts = features.split([layer.in_features for layer in self.finals], 1)
        return torch.stack([layer(part) for layer, part in zip(self.finals, parts)]).mean(0)

    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        if not self.has_head:
            return nn.Identity()
        return self.finals if len(self.finals) > 1 else self.finals[0]


def load(folder: Path) -> nn.Module:
    """The network of a folder, in eval mode, on the CPU. InputError if there is none."""
    with reading.refusing(folder, "not an image network that timm or transformers can load"):
        if _config(folder).get("model_type") == WRAPPER:
            return _from_wrapper(folder).eval()
        if _is_timms(folder):
            return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        return _from_transformers(folder).eval()


def class_names(folder: Path) -> tuple[str, ...] | None:
    """The names of the head's classes in order, unless they are LABEL_0, LABEL_1, …"""
    config = _config(folder)
    names = config.get("label_names") or config.get("id2label") or {}
    return class_names_of(names if isinstance(names, dict) else dict(enumerate(names)))


def is_transformers(folder: Path) -> bool:
    return not _is_timms(folder)


def _is_timms(folder: Path) -> bool:
    return "architecture" in _config(folder)


def _config(folder: Path) -> dict:
    config = reading.load_json(folder / CONFIG)
    return config if isinstance(config, dict) else {}


def _from_wrapper(folder: Path) -> nn.Module:
    """A model of timm whose weights transformers saved under timm_model."""
    config = _config(folder)
    options = config.get("model_args") or {}
    known = config.get("num_classes", len(config.get("id2label") or ()))
    state = {key.removeprefix("timm_model."): value for key, value
             in reading.load_safetensors(folder / "model.safetensors")[0].items()}
    layer = timm.get_pretrained_cfg(config["architecture"]).classifier
    classes = known if f"{layer}.weight" in state else 0  # without: a backbone alone
    model = timm.create_model(config["architecture"], pretrained_cfg=config.get("pretrained_cfg"),
                              **options | {"num_classes": classes})
    model.load_state_dict(state)
    return model


def _from_transformers(folder: Path) -> HubModel:
    from transformers import AutoModelForImageClassification  # takes seconds
    from transformers.utils import logging

    logging.disable_progress_bar()  # missing weights are checked below
    logging.set_verbosity_error()
    model, report = AutoModelForImageClassification.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32,
        output_loading_info=True)
    body = f"{model.base_model_prefix}."
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, nn.Linear) and not name.startswith(body)
              and module.out_features == model.config.num_labels}
    if not layers:
        raise InputError(f"{folder}: expected a classifier with a final linear layer, got "
                         f"{type(model).__name__}")
    if not type(model).__name__.endswith("WithTeacher"):  # of that, the mean of two layers counts
        layers = dict(list(layers.items())[-1:])
    missing = set(report["missing_keys"])
    lost = sorted(key for key in missing if key.startswith(body))
    if lost:
        raise InputError(f"{folder}: weights are missing: {', '.join(lost[:4])}")
    has_head = not any(f"{name}.weight" in missing for name in layers)
    return HubModel(model, tuple(layers.values()), has_head=has_head)
