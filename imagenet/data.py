"""The images: ImageNet's train/ and val/, and the four OOD sets, always in `ImageFolder` order.

Set the two folders here, in the environment (IMGNET_DIR, OOD_DIR), or by --imagenet_dir and
--ood_dir; the latter take precedence.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from experiment.command.errors import InputError, reason_of
from experiment.files import pictures
from experiment.inputs.extraction import Extraction
from experiment.inputs.media import Media, image_file

DATA = Path(__file__).resolve().parent.parent / "data"
IMGNET_DIR = Path(os.environ.get("IMGNET_DIR") or DATA / "imagenet")  # holds train/ and val/
OOD_DIR = Path(os.environ.get("OOD_DIR") or DATA / "ood")
# In the order of the published features; each holds folders of images.
OOD_SETS = {"places": "Places", "sun": "SUN", "inat": "iNaturalist", "dtd": "dtd/images"}


@dataclass(frozen=True)
class ImageSet:
    """N image files. Arrays, not lists: processes that read images then share one copy."""

    root: Path
    names: np.ndarray  # (N,) bytes, paths relative to root
    labels: np.ndarray | None  # (N,) int64, number of the folder among the sorted; None for OOD
    folders: int  # how many folders there are
    sets: dict[str, int]  # name -> rows of each part, in order
    stamps: str | None = None  # digest of sizes and times, if changes of files are to be noticed
    published: bool = True  # opened as the published features were computed, not as people see them

    def __len__(self) -> int:
        return len(self.names)

    def ids(self) -> list[str]:
        return [os.fsdecode(name) for name in self.names]

    def origin(self) -> dict[str, Any]:
        """What identifies the images, for the record of their features."""
        own = {"files": self.stamps, "opened": None if self.published else pictures.AS_SEEN}
        return {"images_sha256": hashlib.sha256(self.names).hexdigest(), "sets": self.sets,
                **{key: value for key, value in own.items() if value is not None}}

    def media(self, row: int) -> Media:
        """A thumbnail. Raises InputError if the file cannot be read."""
        return image_file(self.root / os.fsdecode(self.names[row]), published=self.published)


def is_there(split: str, extraction: Extraction) -> bool:
    """Whether the folders of "train", "val" or "ood" exist."""
    return all(folder.is_dir() for folder in _folders(split, extraction).values())


@functools.cache  # the listing of train/ takes a minute, and is asked for more than once
def read(split: str, extraction: Extraction) -> ImageSet:
    """List the images of "train", "val" or "ood".

    Raises InputError for a folder that is missing or holds no folders of images.
    """
    root = _root(split, extraction)
    option, variable = (("--ood_dir", "OOD_DIR") if split == "ood"
                        else ("--imagenet_dir", "IMGNET_DIR"))
    names, sets, folders = [], {}, 0
    start = len(str(root)) + 1  # of the part of a path that is relative to root
    for name, folder in _folders(split, extraction).items():
        if not folder.is_dir():
            raise InputError(f"{name}: no folder {folder}; set {option}, or {variable} in the "
                             f"environment or in imagenet/data.py")
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: expected folders of images "
                             f"({reason_of(error)})") from error
        names += [os.fsencode(path[start:]) for path, _ in found.samples]
        folders += len(found.classes)
        sets[name] = len(found.samples)
    labels = None if split == "ood" else np.array(found.targets, dtype=np.int64)
    return ImageSet(root, np.array(names), labels, folders, sets)


def read_list(path: Path) -> ImageSet:
    """Validation images listed in a text file: <folder>/<file> per line, in `ImageFolder` order.

    Anything before the folder or after a space is ignored. Raises InputError for lines of another
    form or in another order.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file ({error})") from error
    lines = [line.split()[0] for line in lines if line.strip()]
    pairs = [tuple(line.split("/")[-2:]) for line in lines]
    wrong = [line for line, pair in zip(lines, pairs) if len(pair) != 2]
    if wrong or not pairs:
        raise InputError(f"{path}: expected <folder>/<file> on each line, got "
                         f"{repr(wrong[0]) if wrong else 'none'}")
    for before, after in zip(pairs, pairs[1:]):
        if before >= after:
            raise InputError(f"{path}: expected the order of the features (folders sorted, files "
                             f"sorted within), got {'/'.join(after)} after {'/'.join(before)}")
    folders, labels = np.unique([folder for folder, _ in pairs], return_inverse=True)
    return ImageSet(path, np.array([os.fsencode("/".join(pair)) for pair in pairs]), labels,
                    len(folders), {"val": len(pairs)})


def find_listed(listed: ImageSet, extraction: Extraction) -> ImageSet | None:
    """The validation images of `read_list`, if --imagenet_dir holds a val/."""
    root = _root("val", extraction)
    return replace(listed, root=root) if root.is_dir() else None


class Images(Dataset):
    """Rows (image (3, H, W), problem), one of the two.

    Unreadable files are returned as text: an exception would leave the worker process as a
    traceback.
    """

    def __init__(self, images: ImageSet, transform: Callable) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor | None, str]:
        path = self.images.root / os.fsdecode(self.images.names[row])
        opened = pictures.opened_as_published if self.images.published else pictures.opened
        try:
            return self.transform(opened(path).convert("RGB")), ""
        except MemoryError:
            raise
        except Exception as error:  # of a decoder, or of a transform that was not made for this
            return None, f"{path}: not a readable image ({reason_of(error)})"


def collate(rows: list[tuple[Tensor | None, str]]
            ) -> tuple[Tensor | InputError, list[int], dict[int, str]]:
    """Readable images (n, 3, H, W), their positions in the batch, problems of others by position.

    An error in place of images of unequal sizes: raised here, it would leave the worker process as
    a traceback.
    """
    good = [position for position, (image, _) in enumerate(rows) if image is not None]
    sizes = sorted({tuple(rows[position][0].shape) for position in good})
    if len(sizes) > 1:
        error = InputError(f"the image processor gives images of different sizes, {sizes[0]} and "
                           f"{sizes[-1]}; have it resize and crop to one, in the "
                           f"preprocessor_config.json of the network's folder")
        return error, good, {}
    images = torch.stack([rows[position][0] for position in good]) if good else torch.empty(0)
    return images, good, {at: problem for at, (_, problem) in enumerate(rows) if problem}


def _root(split: str, extraction: Extraction) -> Path:
    if split == "ood":
        return (extraction.ood_dir or OOD_DIR).absolute()
    return (extraction.imagenet_dir or IMGNET_DIR).absolute() / split


def _folders(split: str, extraction: Extraction) -> dict[str, Path]:
    root = _root(split, extraction)
    if split == "ood":
        return {name: root / folder for name, folder in OOD_SETS.items()}
    return {split: root}
