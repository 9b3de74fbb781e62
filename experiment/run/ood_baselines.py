"""Which OOD baselines there are under which printed name, and what each needs to run.

To add one: a function of `Inputs`, named in BASELINES (always computed) or EXTRAS (if asked for by
--baselines). The published ones are computed by `relation`; those of today's extras, which are not
in the paper, by the package pytorch-ood. All of them: HIGHER = MORE OUTLYING.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

import relation
from experiment.command.errors import InputError
from experiment.inputs.samples import BLOCK, Samples
from relation import ood_baselines
from relation.mahalanobis import mahalanobis

PYTORCH_OOD = "pytorch-ood"
GEN_CLASSES = 100  # largest probabilities that GEN looks at, its authors' choice for ImageNet


@dataclass(frozen=True)
class Inputs:
    """What a baseline may draw on; N test rows, M training rows."""

    train: Samples
    test: Samples
    features: Tensor  # (N, D) on the device, as stored for the relation
    target_features: Tensor  # (M / hop, D) likewise
    k: int
    chunk: int
    progress: bool

    @property
    def head(self) -> tuple[Tensor, Tensor] | None:
        """weight (C, D) and bias (C,) of the linear head, with the test rows or the training's."""
        for samples in (self.test, self.train):
            if samples.weight is not None and samples.bias is not None:
                return samples.weight.float(), samples.bias.float()
        return None

    @cached_property
    def logits(self) -> Tensor | None:
        """(N, C) as given, or else from the head."""
        if self.test.logits is not None or self.head is None:
            return self.test.logits
        weight, bias = self.head
        return self.test.features.float() @ weight.T + bias

    def energy(self, samples: Samples) -> Tensor | None:
        """(N,) of either side's logits, given or from the head; a block of logits at a time."""
        if samples.logits is not None:
            return ood_baselines.energy(samples.logits)
        if self.head is None:
            return None
        weight, bias = self.head
        scores = torch.empty(len(samples))
        for found, block in zip(scores.split(BLOCK), samples.features.split(BLOCK)):
            found.copy_(ood_baselines.energy(block.float() @ weight.T + bias))
        return scores

    def lacks(self, need: str | None) -> str | None:
        """What the data would have to hold for this need, or None if they do."""
        if need == "logits" and self.logits is None:
            return f"{self.test.source} has no logits"
        if need == "head" and self.head is None:
            return (f"neither {self.test.source} nor {self.train.source} has the head (weight "
                    f"and bias)")
        if need == "labels" and self.train.labels is None:
            return f"{self.train.source} has no labels"
        return None


class Detector(NamedTuple):
    need: str | None  # "logits", "head" or "labels", beyond features and probabilities
    scores: Callable[[Inputs], Tensor]  # (N,), higher = more outlying
    package: str | None = None  # to be installed with pip


BASELINES = {
    "MSP": Detector(None, lambda x: ood_baselines.msp(x.test.probs)),
    "MaxLogit": Detector("logits", lambda x: ood_baselines.max_logit(x.logits)),
    "Energy": Detector("logits", lambda x: ood_baselines.energy(x.logits)),
    "ReAct": Detector("head", lambda x: ood_baselines.react(
        x.test.features, x.train.features, *x.head)),
    "KL-Matching": Detector(None, lambda x: ood_baselines.kl_matching(
        x.test.probs, x.train.probs)),
    "Mahalanobis": Detector("labels", lambda x: mahalanobis(
        x.test.features.to(x.features.device), x.train.features, x.train.labels,
        progress=x.progress)),
    "KNN": Detector(None, lambda x: relation.knn_scores(
        x.features, x.target_features, k=x.k, chunk=x.chunk, progress=x.progress)),
}


def _vim(x: Inputs) -> Tensor:
    """Wang et al. 2022; its authors keep 1000 dimensions of features wider than 1500, else 512."""
    width = x.test.features.shape[1]
    kept = 1000 if width > 1500 else min(512, width // 2)
    weight, bias = x.head
    return _fitted(_library().ViM(None, kept, weight, bias), x)


EXTRAS = {
    "ViM": Detector("head", _vim, PYTORCH_OOD),
    "GEN": Detector("logits", lambda x: _library().GEN(
        None, M=min(GEN_CLASSES, x.logits.shape[1])).predict_logits(x.logits.float()), PYTORCH_OOD),
    "RMD": Detector("labels", lambda x: _fitted(_library().RMD(None), x), PYTORCH_OOD),
    "tied-Mahalanobis": Detector(
        "labels", lambda x: _fitted(_library().Mahalanobis(None), x), PYTORCH_OOD),
}


def find(names: Sequence[str] | None = None) -> dict[str, Detector]:
    """The detectors of these names, in this order; None: the published ones.

    Raises InputError for an unknown name, and for one whose package is not installed.
    """
    names = tuple(BASELINES) if names is None else names
    known = BASELINES | EXTRAS
    for name in names:
        if name not in known:
            raise InputError(f"--baselines {name}: expected some of {', '.join(BASELINES)} and, "
                             f"where {PYTORCH_OOD} is installed, {', '.join(EXTRAS)}")
        package = known[name].package
        if package and importlib.util.find_spec(package.replace("-", "_")) is None:
            raise InputError(f"--baselines {name}: needs the package {package} "
                             f"(pip install {package})")
    return {name: known[name] for name in names}


def _library() -> Any:
    from pytorch_ood import detector  # an optional package, slow to import

    return detector


def _fitted(detector: Any, x: Inputs) -> Tensor:
    """Scores of a detector that is fitted to the training features; classes are renumbered, since
    the library wants every class from 0 on to have rows."""
    labels = torch.zeros(len(x.train), dtype=torch.int64)
    if x.train.labels is not None:
        labels = x.train.labels.unique(return_inverse=True)[1]
    detector.fit_features(x.train.features.float(), labels)
    return detector.predict_features(x.test.features.float())
