"""Judge new samples by the threshold that a finished OOD run saved.

A run on test rows whose ID rows are known saves the relation score that 95 % of them do not exceed.
With the same training rows it tells of any later sample whether it is out of distribution, as
`detect_ood.py --threshold_from REPORT` does on the command line:

    train = feature_file.read(Path("train.npz"), labelled=False)
    judge = ood_threshold.load(Path("results/test/report"), train)
    scores, is_ood = judge(Samples("camera", features[None], probs[None]))   # one sample, or many

`features` and `probs` are what the network gives for the sample, as in the training file.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs.samples import Samples
from experiment.run.ood import related_to
from experiment.run.settings import Settings
from experiment.run.steps import check_pair, on_device


class Judgement(NamedTuple):
    """scores (N,) higher = more outlying; is_ood (N,) bool, beyond the saved threshold."""

    scores: Tensor
    is_ood: Tensor


def load(report: Path, train: Samples, *, device: str = "auto"
         ) -> Callable[[Samples], Judgement]:
    """A function that judges samples as the run did whose report folder this is.

    Raises InputError if the folder holds no threshold, or if the run's training rows were others.
    """
    path = report / "metrics.json"
    try:
        saved = reading.load_json(path)
        settings = replace(Settings(**saved["method"]), device=device)
        threshold = saved["id_thresholds"]["relation"]
        fingerprint = saved["train"]["fingerprint"]
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected metrics.json of detect_ood.py on test rows with known "
                         f"ID rows ({type(error).__name__}: {error})") from error
    if train.fingerprint != fingerprint:
        raise InputError(f"{path}: was computed with other training rows than {train.source}")
    target_features, target_probs, _ = on_device(train.every(settings.hop), settings)
    related = related_to(target_features, target_probs, settings)

    def judge(samples: Samples) -> Judgement:
        check_pair(train, samples)
        features, probs, _ = on_device(samples, settings)
        scores = related(features, probs)
        return Judgement(scores, scores > threshold)

    return judge
