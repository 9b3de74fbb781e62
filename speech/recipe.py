"""How an AST is fine-tuned; the defaults are as published. Free of torch, for --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of the training; the defaults are as published."""

    epochs: int = 25
    keep: tuple[int, ...] = (5, 15, 25)  # epochs whose network and features are written
    learning_rate: float = 1e-5
    decay_after: int = 5  # epochs at the full rate
    batch_size: int = 48
    clips_per_pass: int = 2  # of a batch, gradients are summed: bounds memory
    frequency_mask: int = 24  # bins, at most
    time_mask: int = 96  # frames, at most
    seed: int = 0
