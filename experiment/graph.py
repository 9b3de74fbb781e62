"""graph_<kernel>_pow<t>.pt: relation scores s0 of a full run, kept because they cost the most.

The file has the published form, a dict of "score" (N,) and of empty lists "top", "top_val", "low",
"low_val"; beside it graph_*.json says what it was computed from, and only what matches is used. A
published file has no such sidecar: it is used on request alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from experiment import store
from experiment.arguments import RelationSettings
from experiment.errors import InputError

ENGINE = 1  # raised when the same data and settings begin to give other scores


@dataclass(frozen=True)
class Graph:
    """Where a run finds and keeps its s0.

    `trusted`: the file was named by the user, and is taken whatever it was computed from.
    """

    path: Path
    trusted: bool = False

    @classmethod
    def of(cls, chosen: str, folder: Path, settings: RelationSettings) -> "Graph | None":
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

    def load(self, n: int, fingerprint: str, settings: RelationSettings) -> Tensor | None:
        """s0 (n,) float32; None where there is none that was computed from the same.

        Raises InputError for a file named by the user that holds no scores of n rows.
        """
        if not self.trusted and self._recorded() != made_from(fingerprint, settings):
            return None
        content = store.load(self.path)
        score = content.get("score") if isinstance(content, dict) else None
        if not isinstance(score, Tensor) or tuple(score.shape) != (n,) \
                or not score.is_floating_point() or not score.isfinite().all():
            raise InputError(f"{self.path}: expected a dict with finite scores ({n},) under "
                             f"'score'; remove it to have them computed, or choose --graph off")
        return score.float()

    def save(self, score: Tensor, fingerprint: str, settings: RelationSettings) -> str | None:
        """Write both files, so that at no moment an old sidecar speaks for a new file.

        Returns why they are not kept, if so: a file without a sidecar is somebody else's and stays,
        and scores that took hours are not given up because they cannot be kept.
        """
        if self.path.exists() and not self.sidecar.exists():
            return (f"{self.path} does not say what it was computed from: not used (--graph "
                    f"{self.path} would), and not replaced")
        try:
            self._write(score, fingerprint, settings)
        except (InputError, OSError) as error:
            return f"scores before refinement are not kept: {error}"
        return None

    def _write(self, score: Tensor, fingerprint: str, settings: RelationSettings) -> None:
        store.save_json(None, self.sidecar)  # ours, and matching nothing, until both are written
        empty: dict[str, list] = {"top": [], "top_val": [], "low": [], "low_val": []}
        store.save({"score": score, **empty}, self.path)
        store.save_json(made_from(fingerprint, settings), self.sidecar)

    def _recorded(self) -> object:
        try:
            return json.loads(self.sidecar.read_text(encoding="utf-8")) if self.path.is_file() \
                else None
        except (OSError, ValueError):  # none, or not one of ours: then it matches nothing
            return None


def made_from(fingerprint: str, settings: RelationSettings) -> dict[str, object]:
    """What s0 depends on; --chunk and --device change it by rounding only."""
    return {"engine": ENGINE, "data": fingerprint, "kernel": settings.kernel,
            "temperature": settings.temperature, "threshold": settings.threshold,
            "hop": settings.hop, "dtype": settings.dtype}
