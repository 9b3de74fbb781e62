"""Steps that looking for label errors and for outliers have in common."""

import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import relation
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.command.watch import Watch
from experiment.files.scratch import Scratch
from experiment.inputs.samples import BLOCK, Samples
from experiment.run.settings import Settings
from relation.tiles import row_slices


def evaluate_all(scores: dict[str, Tensor], is_positive: Tensor | None, positive: str,
                 group: str = "all", *, progress: bool = False) -> tuple[list[dict], list[str]]:
    """A row of metrics per score, and the notes that say what could not be evaluated."""
    if is_positive is None:
        return [], []
    if is_positive.all() or not is_positive.any():
        undefined = dict.fromkeys(relation.Metrics._fields)
        which = "every row is" if is_positive.all() else "no row is"
        return ([{"name": name, "group": group, **undefined} for name in scores],
                [f"{which} {positive} ({group}): AUROC, AP, TNR95 and FPR95 are not defined"])
    return [{"name": name, "group": group,
             **relation.evaluate(values.numpy(), is_positive.numpy())._asdict()}
            for name, values in tqdm(scores.items(), desc="metrics", unit=" scores", delay=1,
                                     disable=not progress)], []


def on_device(samples: Samples, settings: Settings, folder: Path | None = None, *,
              progress: bool = False) -> tuple[Tensor, Tensor, list[str]]:
    """Features and probabilities as stored for the relation, and notes on odd rows.

    Half precision stores unit features, so that large ones do not overflow, and half as many bytes
    to be read time and again: memory-mapped from `folder` if they are many. Float32 is handed on as
    it is, and may stay memory-mapped.
    """
    device, dtype = find_device(settings.device), getattr(torch, settings.dtype)
    zeros = int(samples.is_zero.sum())
    notes = [f"{zeros} of {len(samples)} rows have a feature of zeros and relate to nothing "
             f"({samples.source})"] if zeros else []
    features, probs = samples.features, samples.probs
    if dtype != torch.float32:
        small_features, small_probs = (Scratch(folder, len(samples), tensor.shape[1], dtype)
                                       for tensor in (features, probs))
        for rows in tqdm(list(row_slices(len(samples), BLOCK)), desc=settings.dtype,
                         unit=" blocks", delay=1, disable=not progress):
            small_features.write(rows.start, relation.unit_rows(samples.features[rows]))
            small_probs.write(rows.start, samples.probs[rows])
        features, probs = small_features.rows, small_probs.rows
    return features.to(device), probs.to(device, dtype), notes


class Clock:
    """Seconds between laps, for metrics.json."""

    def __init__(self, laps: dict[str, float] | None = None) -> None:
        """The first lap begins where the command did; where there are earlier `laps`, to which
        more are added, it begins now."""
        watch = Watch.latest()
        begins_now = watch is None or laps is not None
        self._last = time.perf_counter() if begins_now else watch.began
        self.laps = {} if laps is None else laps

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def check_pair(train: Samples, test: Samples) -> None:
    """Raise InputError unless both come from one network, as far as their widths tell."""
    for name, what in (("features", "features"), ("probs", "classes")):
        widths = [getattr(samples, name).shape[1] for samples in (train, test)]
        if widths[0] != widths[1]:
            raise InputError(f"{test.source}: expected {widths[0]} {what} as in {train.source}, "
                             f"got {widths[1]}")
    if test.group is not None and "all" in test.group:
        raise InputError(f"{test.source}: group 'all' would be taken for all OOD rows together; "
                         f"give it another name")


def evaluate_groups(scores: dict[str, Tensor], test: Samples) -> tuple[list[dict], list[str]]:
    """Metrics of every score over all rows, then over the ID rows and the OOD rows of one group."""
    metrics, notes = evaluate_all(scores, test.is_ood, "OOD")
    if test.is_ood is not None and test.group is not None:
        for group in dict.fromkeys(test.group[row] for row in test.is_ood.nonzero()[:, 0].tolist()):
            rows = ~test.is_ood | torch.tensor([member == group for member in test.group])
            metrics += evaluate_all({name: values[rows] for name, values in scores.items()},
                                    test.is_ood[rows], "OOD", group)[0]
    return metrics, notes


def id_thresholds(scores: dict[str, Tensor], is_ood: Tensor | None) -> dict[str, float]:
    """For each score the threshold that keeps 95 % of the ID rows; none without known ID rows."""
    if is_ood is None or is_ood.all():
        return {}
    return {name: relation.accept_threshold(values[~is_ood].numpy())
            for name, values in scores.items()}
