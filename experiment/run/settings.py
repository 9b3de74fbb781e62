"""Settings: how label errors or outliers are looked for, one object from the options on."""

import argparse
from dataclasses import dataclass

RESNET_CHUNK = 100  # most rows at a time of an experiment resnet*: its features are twice as wide
FEW_ROWS = 100_000  # up to which outliers, copies and relation maps are looked for unasked: minutes
FLAGS = {"pow": "temperature", "thres": "threshold", "reg": "noise_threshold"}  # published names


@dataclass(frozen=True)
class Settings:
    """The relation options and the label-error options, in the method's words."""

    kernel: str = "cos_p"
    temperature: float = 4
    threshold: float = 0.03
    hop: int = 1
    chunk: int = 250
    dtype: str = "float32"
    device: str = "auto"
    engine: str = "auto"
    noise_threshold: float = 0.05  # the paper's lambda
    n_iter: int = 2  # passes: 1 = no refinement
    graph: str = "auto"  # or "off", or a file: scores before refinement
    probs: str = "model"  # or "loo": whose probabilities the reported relation is made of
    duplicates: float | str | None = None  # a cosine, "auto" or "off"; None: "auto" if soon done
    auto: bool = True  # whether out-of-sample scores are computed

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Settings":
        """What the script's options say; those it lacks keep their defaults."""
        given = {FLAGS.get(name, name): value for name, value in vars(args).items()}
        if (given.get("name") or "").startswith("resnet"):
            given["chunk"] = min(given["chunk"], RESNET_CHUNK)
        return cls(**{name: given[name] for name in cls.__dataclass_fields__ if name in given})

    @property
    def wants_auto(self) -> bool:
        """Whether the out-of-sample scores are computed."""
        return self.probs == "loo" or self.auto

    def wants_whole_set(self, n: int) -> bool:
        """Whether outliers and copies are looked for among n labelled rows."""
        return self.duplicates not in (None, "off") or (self.wants_auto and n <= FEW_ROWS)
