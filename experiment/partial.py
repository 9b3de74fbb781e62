"""partial_*.pt: sums of a run that is under way, so that a killed one goes on where it was.

The file says what it was computed from, and is used only where all of that is the same; it is
removed when the run is done.
"""

import contextlib
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from experiment import processes, store
from experiment.arguments import RelationSettings
from experiment.errors import InputError
from experiment.escaping import printable
from experiment.graph import made_from

EVERY = 30.0  # seconds between two writes: a kill costs at most as much


class PartialSums:
    """`relation.sums.Checkpoint` on a file in `folder`, one for each process of a run."""

    def __init__(self, folder: Path, settings: RelationSettings, fingerprint: str) -> None:
        made = made_from(fingerprint, settings)
        digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:12]
        self._stem = f"partial_{settings.kernel}_pow{settings.temperature}_{digest}"
        self.path = folder / f"{self._stem}_process{processes.rank()}.pt"
        # The blocks depend on --chunk, the shares of the processes on their count.
        self._made_from: dict[str, Any] = made | {
            "chunk": settings.chunk, "processes": processes.count()}
        self._division = ""
        self._written = time.monotonic()

    def load(self, division: str) -> tuple[int, Tensor] | None:
        """What an earlier run on the same, divided so into blocks, left; or None."""
        self._division = division
        try:
            kept = store.load(self.path)
        except InputError:  # none, or not one of ours: then there is nothing to go on from
            return None
        if not isinstance(kept, dict) or kept.get("made_from") != self._made_from \
                or kept.get("division") != division:
            return None
        return kept["done"], kept["sums"].clone()

    def offer(self, done: int, sums: Tensor) -> None:
        """Keep the sums after so many blocks, if the last time is long enough ago.

        A run is not given up because they cannot be kept: it says so, and does not try again.
        """
        if time.monotonic() - self._written < EVERY:
            return
        try:
            store.save({"made_from": self._made_from, "division": self._division, "done": done,
                        "sums": sums}, self.path)
            self._written = time.monotonic()
        except InputError as error:
            tqdm.write(f"after a kill this run would begin anew: {printable(str(error))}")
            self._written = math.inf

    def remove(self) -> None:
        """The run is done: no process of it needs what any has kept."""
        if processes.is_first():
            with contextlib.suppress(OSError):  # of a folder that cannot be written
                for path in self.path.parent.glob(f"{self._stem}_process*.pt"):
                    path.unlink()
