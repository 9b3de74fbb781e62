"""The saved threshold judges new samples as the run judged its own."""

import dataclasses
import json

import pytest
import torch

from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.report import scores as report
from experiment.run import ood_baselines, ood_threshold
from experiment.run.ood import find_ood
from experiment.run.settings import Settings

SETTINGS = Settings("cos_p", 2, 0.01, hop=2, chunk=16, device="cpu")


def draw(n, seed, shift=0.0, source="train", **fields):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 5, generator=generator) + torch.tensor([4.0, 0, 0, 0, 0]) - shift
    return Samples(source, features, features[:, :3].softmax(1), **fields)


TRAIN = draw(60, 0)


@pytest.fixture
def run(tmp_path):
    test = draw(50, 1, source="test", is_ood=torch.arange(50) >= 40)
    result = find_ood(TRAIN, test, SETTINGS, detectors=ood_baselines.find(["MSP"]), progress=False)
    report.write_metrics(result, tmp_path, options={})
    return tmp_path, result


def test_new_samples_are_judged_as_in_the_run(run):
    folder, result = run
    judge = ood_threshold.load(folder, TRAIN)
    scores, is_ood = judge(result.samples)
    torch.testing.assert_close(scores, result.relation_score)
    assert int(is_ood[:40].sum()) == 2  # 95 % of 40 ID rows are kept
    one = judge(Samples("new", result.samples.features[:1], result.samples.probs[:1]))
    torch.testing.assert_close(one.scores, scores[:1])
    assert one.is_ood == is_ood[0] and judge(draw(1, 2, shift=8)).is_ood


def test_other_training_rows_are_refused(run):
    with pytest.raises(InputError, match="was computed with other training rows than train"):
        ood_threshold.load(run[0], dataclasses.replace(TRAIN, features=TRAIN.features + 1))


def test_samples_of_another_network_are_refused(run):
    judge = ood_threshold.load(run[0], TRAIN)
    with pytest.raises(InputError, match="new: expected 5 features as in train, got 4"):
        judge(Samples("new", torch.ones(1, 4), torch.ones(1, 3) / 3))


@pytest.mark.parametrize("content", [
    None, "{", "[]", json.dumps({"method": vars(SETTINGS)}),
    json.dumps({"method": vars(SETTINGS), "id_thresholds": {}, "train": {"fingerprint": ""}})])
def test_a_report_without_threshold_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"expected metrics.json of detect_ood.py on test rows"):
        ood_threshold.load(tmp_path, TRAIN)
