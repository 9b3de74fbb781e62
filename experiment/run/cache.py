"""What a run caches: relation scores before refinement (s0), and partial sums to resume from.

graph_<kernel>_pow<t>.pt holds s0 of a full run, which costs the most. `Cache` is made for a run and
used by `label_errors`: it loads s0 where data and settings are the same, saves it otherwise, and
lets a killed run resume from partial_*.pt. Outliers have no cached scores, `PartialSums` alone.

The file has the published form, a dict of "score" (N,) and of empty lists "top", "top_val", "low",
"low_val"; beside it graph_*.json says what it was computed from, and only what matches is used. A
published file has no such sidecar: it is used on request alone.
"""

import contextlib
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from experiment.command import processes
from experiment.command.errors import InputError
from experiment.command.escaping import printable
from experiment.files import reading, writing
from experiment.run.settings import Settings

# Bump when scores change for the same data and settings, or sums in other blocks.
ENGINE = 2
SCORES = "scores_sha256"  # of the file that the sidecar describes


@dataclass(frozen=True)
class CachedScores:
    """The file of s0.

    `trusted`: the file was named by the user, and is used whatever it was computed from.
    """

    path: Path
    trusted: bool = False

    @classmethod
    def of(cls, chosen: str, folder: Path, settings: Settings) -> "CachedScores | None":
        """What --graph asks for: auto (full runs of cos_p, in `folder`), off, or a file.

        A run with the dense engine is there to check the other, and reads nothing kept.
        """
        if chosen == "off":
            return None
        if chosen != "auto":
            return cls(Path(chosen), trusted=True)
        if settings.hop > 1 or settings.kernel != "cos_p" or settings.engine != "auto":
            return None
        return cls(folder / f"graph_{settings.kernel}_pow{settings.temperature}.pt")

    @property
    def sidecar(self) -> Path:
        return self.path.with_suffix(".json")

    def load(self, n: int, fingerprint: str, settings: Settings) -> Tensor | None:
        """s0 (n,) float32; None if none was computed from the same data and settings.

        Raises InputError for a file named by the user that holds no scores of n rows.
        """
        recorded = {} if self.trusted else reading.recorded(self.sidecar)
        asked_for = made_from(fingerprint, settings)
        if not self.trusted and (not self.path.is_file() or asked_for != {
                key: value for key, value in recorded.items() if key != SCORES}):
            return None
        content = reading.load(self.path)
        score = content.get("score") if isinstance(content, dict) else None
        if not isinstance(score, Tensor) or tuple(score.shape) != (n,) \
                or not score.is_floating_point() or not score.isfinite().all():
            raise InputError(f"{self.path}: expected a dict with finite scores ({n},) under "
                             f"'score'; remove it to have them computed, or choose --graph off")
        score = score.float()
        if not self.trusted and recorded.get(SCORES) != _digest(score):
            return None  # two runs with other settings wrote in turn, or the file was replaced
        return score

    def save(self, score: Tensor, fingerprint: str, settings: Settings) -> str | None:
        """Write both files, so a stale sidecar never describes a new file.

        Returns why they are not kept, if so: a file without a sidecar is not ours and stays,
        and scores that took hours are not given up because they cannot be kept.
        """
        if self.path.exists() and not self.sidecar.exists():
            return (f"{self.path} has no record of what it was computed from, so it is neither "
                    f"used nor overwritten (--graph {self.path} uses it)")
        try:
            self._write(score, fingerprint, settings)
        except (InputError, OSError) as error:
            return f"scores before refinement are not kept: {error}"
        return None

    def _write(self, score: Tensor, fingerprint: str, settings: Settings) -> None:
        writing.save_json(None, self.sidecar)  # ours, and matching nothing, until both are written
        empty: dict[str, list] = {"top": [], "top_val": [], "low": [], "low_val": []}
        writing.save({"score": score, **empty}, self.path)
        writing.save_json(made_from(fingerprint, settings) | {SCORES: _digest(score)}, self.sidecar)


def made_from(fingerprint: str, settings: Settings) -> dict[str, object]:
    """What s0 depends on; --chunk and --device change it by rounding only."""
    return {"engine": ENGINE, "data": fingerprint, "kernel": settings.kernel,
            "temperature": settings.temperature, "threshold": settings.threshold,
            "hop": settings.hop, "dtype": settings.dtype}


def _digest(score: Tensor) -> str:
    return hashlib.sha256(score.float().cpu().numpy().tobytes()).hexdigest()


EVERY = 30.0  # seconds between two writes: a kill costs at most as much


class PartialSums:
    """`relation.sums.Checkpoint` on a file in `folder`, one for each process of a run."""

    def __init__(self, folder: Path, settings: Settings, fingerprint: str) -> None:
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
            kept = reading.load(self.path)
        except InputError:  # none, or not one of ours: then there is nothing to resume from
            return None
        if not isinstance(kept, dict) or kept.get("made_from") != self._made_from \
                or kept.get("division") != division:
            return None
        return kept["done"], kept["sums"].clone()

    def offer(self, done: int, sums: Tensor) -> None:
        """Save the sums after so many blocks, at most every EVERY seconds.

        A run is not given up because they cannot be kept: it says so, and does not try again.
        """
        if time.monotonic() - self._written < EVERY:
            return
        try:
            writing.save({"made_from": self._made_from, "division": self._division, "done": done,
                        "sums": sums}, self.path)
            self._written = time.monotonic()
        except InputError as error:
            tqdm.write("partial sums are not saved, so this run cannot resume after a kill: "
                       + printable(str(error)))
            self._written = math.inf

    def remove(self) -> None:
        """The run is done: no process of it needs what any has kept."""
        if processes.is_first():
            with contextlib.suppress(OSError):  # of a folder that cannot be written
                for path in self.path.parent.glob(f"{self._stem}_process*.pt"):
                    path.unlink()


@dataclass(frozen=True)
class Cache:
    """What a run loads of earlier ones and saves for later ones: s0, and partial sums."""

    scores: CachedScores | None
    sums: PartialSums | None
    fingerprint: str
    settings: Settings

    @classmethod
    def of(cls, folder: Path | None, settings: Settings, fingerprint: str) -> "Cache":
        """In the experiment's `folder`, as `settings.graph` says; None: nothing is cached."""
        if folder is None or settings.graph == "off":
            return cls(None, None, fingerprint, settings)
        return cls(CachedScores.of(settings.graph, folder, settings),
                   PartialSums(folder, settings, fingerprint), fingerprint, settings)

    def load(self, n: int) -> Tensor | None:
        """s0 (n,) of an earlier run on the same data and settings."""
        return None if self.scores is None else self.scores.load(n, self.fingerprint, self.settings)

    def save(self, score: Tensor) -> str | None:
        """Returns why s0 is not kept, if so."""
        return None if self.scores is None else \
            self.scores.save(score, self.fingerprint, self.settings)

    def remove_partial_sums(self) -> None:
        if self.sums is not None:
            self.sums.remove()
