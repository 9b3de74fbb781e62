"""A folder of Google Drive that holds one of the paper's experiments."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """One of the paper's experiments, as its authors host it on Google Drive."""

    drive_id: str
    size: str  # as announced
    domain: str
    results: Path  # the default --cache_dir of its domain
    folder: str  # under --cache_dir
    files: tuple[str, ...]  # under the folder, what detection reads; Drive may hold more
