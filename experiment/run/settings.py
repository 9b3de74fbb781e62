"""How label errors or outliers are looked for: one object, from the options to the method."""

import argparse
from dataclasses import dataclass

RESNET_CHUNK = 100  # rows at a time that the published runs use for resnet's wider features
AUTO_ROWS = 100_000  # up to which the out-of-sample scores are computed unasked: minutes


@dataclass(frozen=True)
class Settings:
    """What the relation options say, in the method's words."""

    kernel: str
    temperature: float
    threshold: float
    hop: int
    chunk: int
    dtype: str
    device: str
    engine: str = "auto"
    probs: str = "model"  # or "loo": whose probabilities the reported relation is made of
    auto: bool | None = None  # whether out-of-sample scores are computed; None: if soon done

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Settings":
        """What the script's options say; those it lacks keep their defaults."""
        resnet = (getattr(args, "name", None) or "").startswith("resnet")
        return cls(
            kernel=args.kernel, temperature=args.pow, threshold=args.thres, hop=args.hop,
            chunk=min(args.chunk, RESNET_CHUNK) if resnet else args.chunk, dtype=args.dtype,
            device=args.device, engine=args.engine, probs=getattr(args, "probs", "model"),
            auto=getattr(args, "auto", None))


def wants_auto(settings: Settings, n: int) -> bool:
    """Whether the out-of-sample scores of n rows are computed."""
    return settings.probs == "loo" or (n <= AUTO_ROWS if settings.auto is None else settings.auto)
