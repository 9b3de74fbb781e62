"""Steps that looking for label errors and for outliers have in common."""

import hashlib
import time

import torch
from torch import Tensor
from tqdm import tqdm

import relation
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.command.watch import Watch
from experiment.inputs.samples import BLOCK, CHECKED, Samples
from experiment.run.settings import Settings


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


def on_device(samples: Samples, settings: Settings) -> tuple[Tensor, Tensor, list[str]]:
    """Features and probabilities as stored for the relation, and notes on odd rows.

    Half precision stores unit features, so that large ones do not overflow; float32 is handed on
    as it is, and may stay memory-mapped.
    """
    device, dtype = find_device(settings.device), getattr(torch, settings.dtype)
    zeros = sum(int(((block.amax(1) == 0) & (block.amin(1) == 0)).sum())  # as float32 holds them
                for block in map(Tensor.float, samples.features.split(CHECKED)))
    notes = [f"{zeros} of {len(samples)} rows have a feature of zeros and relate to nothing "
             f"({samples.source})"] if zeros else []
    features = samples.features
    if dtype != torch.float32:
        features = torch.empty(features.shape, dtype=dtype)
        for ready, block in zip(features.split(BLOCK), samples.features.split(BLOCK)):
            ready.copy_(relation.unit_rows(block))
    return features.to(device), samples.probs.to(device, dtype), notes


def fingerprint_of(samples: Samples, *, progress: bool = False) -> str:
    """SHA-256 over features, probabilities and labels with their kinds and shapes."""
    digest = hashlib.sha256()
    tensors = {name: getattr(samples, name) for name in ("features", "probs", "labels")}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with tqdm(total=sum(tensor.nbytes for tensor in tensors.values()), desc="fingerprint",
              unit="B", unit_scale=True, delay=1, disable=not progress) as bar:
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for block in tensor.split(BLOCK):
                digest.update(block.contiguous().view(torch.uint8).numpy())
                bar.update(block.nbytes)
    return digest.hexdigest()


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
