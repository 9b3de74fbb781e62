"""Cells: a set in a regime with wrong labels, one .npz each under DATA/dev and DATA/heldout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.real.images import IMAGES
from benchmarks.real.labelled import Labelled
from benchmarks.real.networks import REGIMES, frozen, trained
from benchmarks.real.noise import wrong_labels
from benchmarks.real.sounds import SOUNDS
from benchmarks.real.tables import TABLES
from benchmarks.real.texts import TEXTS

SETS: dict[str, Callable[[Path], Labelled]] = {**TABLES, **TEXTS, **IMAGES, **SOUNDS}
# A third, of every kind of data, that nothing is chosen on: named before anything was measured.
HELD_OUT = ("storms", "cells", "fortunes", "emoji_names", "icons", "spoken_letters")
NOISE = {"u02": (0.02, "uniform"), "u08": (0.08, "uniform"), "u20": (0.20, "uniform"),
         "u40": (0.40, "uniform"), "c20": (0.20, "class"), "f08": (0.08, "feature")}


def noises_of(name: str) -> list[str]:
    """The four rates of uniform noise, and one of the two other kinds in turn."""
    other = "c20" if list(SETS).index(name) % 2 == 0 else "f08"
    return [noise for noise in NOISE if noise.startswith("u") or noise == other]


def path_of(data: Path, name: str, regime: str, noise: str) -> Path:
    part = "heldout" if name in HELD_OUT else "dev"
    return data / part / f"{name}__{regime}__{noise}.npz"


def build(data: Path, name: str) -> int:
    """Write the cells of a set that are missing; how many those were."""
    paths = {(regime, noise): path_of(data, name, regime, noise)
             for noise in noises_of(name) for regime in REGIMES}
    missing = [noise for noise in noises_of(name)
               if not all(paths[regime, noise].is_file() for regime in REGIMES)]
    if not missing:
        return 0
    labelled = SETS[name](data)
    for noise in missing:
        share, kind = NOISE[noise]
        seed = 100 * list(SETS).index(name) + list(NOISE).index(noise)
        write_cells(labelled, share, kind, seed, {r: paths[r, noise] for r in REGIMES})
    return 3 * len(missing)


def write_cells(labelled: Labelled, share: float, kind: str, seed: int, paths: dict[str, Path]
                ) -> None:
    """A cell for each regime, with the same wrong labels in all of them."""
    classes = len(labelled.class_names)
    given = wrong_labels(labelled.encoded, labelled.labels, share, kind, seed)
    said = {"frozen": frozen(labelled.encoded, given, classes),
            **trained(labelled.inputs, given, classes, seed)}
    for regime, path in paths.items():
        features, probs = said[regime]
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            np.savez(file, features=features, probs=probs, labels=given,
                     true_labels=labelled.labels, is_noisy=given != labelled.labels,
                     class_names=np.array(labelled.class_names))
        unfinished.replace(path)
