"""Feature-extraction options: one object, from the scripts to the loaders.

A domain reads the fields that apply to it and ignores the others.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Extraction:
    """None means "not given": the domain's default or the published files then apply."""

    batch_size: int = 128
    workers: int = 16
    print_freq: int = 10  # batches between two updates of the progress
    device: str = "auto"
    progress: bool = True
    checkpoint: Path | None = None  # weights instead of the experiment's or timm's own
    image_size: int | None = None  # pixels a side, for the user's own images
    mean: tuple[float, ...] | None = None  # of the channels R, G, B, on a scale of 0 to 1
    std: tuple[float, ...] | None = None
    imagenet_dir: Path | None = None  # holds train/ and val/
    ood_dir: Path | None = None  # holds Places, SUN, iNaturalist, dtd/images
    train_labels: Path | None = None  # .pt, .npy or .txt of N integers
    val_list: Path | None = None  # text: a path relative to val/ on each line
    ood_groups: tuple[tuple[str, int], ...] | None = None  # (name, rows) in the order of the rows
    skip_corrupt: bool = False
    max_length: int = 128  # tokens of a text or pair, as is usual for GLUE; longer ones are cut

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Extraction":
        """The parsed options; those that the script does not have keep their defaults."""
        given = vars(args) | {"progress": args.verbose}
        return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})
