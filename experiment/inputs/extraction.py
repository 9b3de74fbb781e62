"""Feature-extraction options: one object, from the scripts to the loaders.

A domain takes the fields that mean something to it and leaves the others alone.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Extraction:
    """None stands for "not given"; the domain's own default or the published files decide then."""

    batch_size: int = 128
    workers: int = 16
    print_freq: int = 10  # batches between two updates of the progress
    device: str = "auto"
    progress: bool = True
    checkpoint: Path | None = None  # weights instead of the experiment's or timm's own
    imagenet_dir: Path | None = None  # holds train/ and val/
    ood_dir: Path | None = None  # holds Places, SUN, iNaturalist, dtd/images
    train_labels: Path | None = None  # .pt, .npy or .txt of N integers
    val_list: Path | None = None  # text: a path relative to val/ on each line
    ood_groups: tuple[tuple[str, int], ...] | None = None  # (name, rows) in the order of the rows
    skip_corrupt: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Extraction":
        """What of these options the script offers; the rest keeps its defaults."""
        given = vars(args) | {"progress": args.verbose}
        return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})
