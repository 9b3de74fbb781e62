"""Steps that looking for label errors and for outliers have in common."""

import hashlib
import time

import torch
from torch import Tensor

import relation
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.inputs.samples import BLOCK, Samples
from experiment.run.settings import Settings


def evaluate_all(scores: dict[str, Tensor], is_positive: Tensor | None, positive: str,
                 group: str = "all") -> tuple[list[dict], list[str]]:
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
            for name, values in scores.items()], []


def on_device(samples: Samples, settings: Settings) -> tuple[Tensor, Tensor, list[str]]:
    """Features and probabilities as stored for the relation, and notes on odd rows.

    Half precision stores unit features, so that large ones do not overflow; float32 is handed on
    as it is, and may stay memory-mapped.
    """
    device, dtype = find_device(settings.device), getattr(torch, settings.dtype)
    zeros = sum(int((~block.float().any(1)).sum()) for block in samples.features.split(BLOCK))
    notes = [f"{zeros} of {len(samples)} rows have a feature of zeros and relate to nothing "
             f"({samples.source})"] if zeros else []
    features = samples.features
    if dtype != torch.float32:
        features = torch.cat([relation.unit_rows(block).to(dtype)
                              for block in features.split(BLOCK)])
    return features.to(device), samples.probs.to(device, dtype), notes


def fingerprint_of(samples: Samples) -> str:
    """SHA-256 over features, probabilities and labels with their kinds and shapes."""
    digest = hashlib.sha256()
    for name in ("features", "probs", "labels"):
        tensor = getattr(samples, name)
        if tensor is not None:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for block in tensor.split(BLOCK):
                digest.update(block.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


class Clock:
    """Seconds between laps, for metrics.json."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

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
