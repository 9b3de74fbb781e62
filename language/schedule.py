"""How a text model is fine-tuned; the defaults are as published. Free of torch, for --help."""

from dataclasses import dataclass

from experiment.inputs.extraction import Extraction

WARMUP = {"sst2": 1256, "mnli": 7432}  # steps, as published
WARMUP_SHARE = 0.06  # of all steps, for other tasks: what the published numbers come to


@dataclass(frozen=True)
class Schedule:
    """What determines the weights, besides texts, labels and the model to start from."""

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    warmup: int | None = None  # steps; None: 6 % of all
    max_length: int = Extraction.max_length
    seed: int = 0
