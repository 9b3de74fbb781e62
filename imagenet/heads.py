"""The final linear layers of a network with timm's methods: their inputs are the features.

Most networks have one. Distilled DeiT and its like have two, of which inference takes the mean.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Head(NamedTuple):
    """The final linear layer."""

    weight: Tensor  # (C, D)
    bias: Tensor  # (C,)


def linear_layers(model: nn.Module) -> tuple[nn.Linear, ...]:
    """The final layers; () if they are not linear."""
    final = model.get_classifier()
    layers = final if isinstance(final, tuple) else (final,)
    return layers if all(isinstance(layer, nn.Linear) for layer in layers) else ()


def widths(model: nn.Module) -> tuple[int, int]:
    """D of the features and C of the final layer, 0 if that is not linear."""
    layers = linear_layers(model)
    if layers:
        return sum(layer.in_features for layer in layers), layers[0].out_features
    return model.head_hidden_size, 0


def head_of(model: nn.Module) -> Head | None:
    """The final layer, or None without one; of several, their mean, whose input is that of all of
    them side by side, as `features_and_logits` returns it."""
    layers = linear_layers(model)
    if not layers:
        return None
    biases = [torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
              for layer in layers]
    return Head(torch.cat([layer.weight.detach() for layer in layers], 1) / len(layers),
                torch.stack(biases).mean(0))


def features_and_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """images (N, 3, H, W) -> (N, D), (N, C); C is 0 without a linear final layer.

    The inputs of several final layers stand side by side, so that their mean is linear, too.
    """
    layers = linear_layers(model)
    if len(layers) > 1:
        entered: dict[nn.Linear, Tensor] = {}
        handles = [layer.register_forward_pre_hook(
            lambda layer, inputs: entered.update({layer: inputs[0]})) for layer in layers]
        try:
            logits = model.forward_head(model.forward_features(images))
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([entered[layer] for layer in layers], 1), logits
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    return features, layers[0](features) if layers else features[:, :0]
