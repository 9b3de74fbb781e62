import json

import pytest

from experiment.command.errors import InputError
from language.layout import column_order, locate, model_classes


@pytest.fixture
def task(tmp_path):
    """A task's folder with the published model at epochs 2, 4 and 10, and another at 1."""
    folder = tmp_path / "cache/sst2"
    for name in ("roberta-base_fp16_noise0.1/epoch_10", "roberta-base_fp16_noise0.1/epoch_2",
                 "roberta-base_fp16_noise0.1/epoch_4", "other/epoch_1", "other/.epoch_2.part"):
        (folder / name).mkdir(parents=True)
    return folder


def test_default_model_reports_to_the_task_others_beside_their_features(task):
    base = task / "roberta-base_fp16_noise0.1"
    place = locate(task, None, 4)
    assert place == locate(task, base.name, 4)
    assert place.weights == place.features == base / "epoch_4"
    assert place.homes == (base / "epoch_4", base) and place.report == task / "report"
    assert locate(task, None, 2).report == base / "epoch_2/report"
    assert locate(task, "other", 1).report == task / "other/epoch_1/report"


def test_folder_elsewhere_keeps_its_features_in_the_cache(task, tmp_path, monkeypatch):
    for parent in ("a", "b"):
        (tmp_path / parent / "mine").mkdir(parents=True)
        (tmp_path / parent / "mine/config.json").touch()
    place = locate(task, str(tmp_path / "a/mine"), 4)
    assert place.weights == tmp_path / "a/mine" and place.homes == (place.weights,)
    assert place.features.parent == task and place.features.name.startswith("mine-")
    assert locate(task, str(tmp_path / "b/mine"), 4).features != place.features
    monkeypatch.chdir(tmp_path / "a")
    assert locate(task, "mine", 4) == locate(task, "./mine", 4) == place
    assert locate(task, str(task / "other"), 1).weights == task / "other/epoch_1"


def test_folder_of_an_epoch_by_its_path(task):
    (task / "other/config.json").touch()
    place = locate(task, str(task / "other/epoch_1"), 4)
    assert place.homes == (place.weights, task / "other")


@pytest.mark.parametrize("name, epoch, message", [
    (None, 3, "--epoch 3: no folder .*epoch_3; epochs there: 2, 4, 10"),
    ("other", 2, "--epoch 2: no folder .*epoch_2; epochs there: 1"),
    ("nothing", 4, "--model_name nothing: no such folder, here or in .*sst2"),
    ("other/epoch_1", 4, "--epoch 4: no folder .*; epochs there: none"),
])
def test_refuses(task, name, epoch, message):
    with pytest.raises(InputError, match=message):
        locate(task, name, epoch)


def test_names_of_the_models_columns(task):
    place = locate(task, None, 4)
    assert model_classes(place) is None
    config = task / "roberta-base_fp16_noise0.1/config.json"
    for names, expected in (({"1": "b", "0": "a"}, ("a", "b")), ({"0": "LABEL_0"}, None),
                            ({}, None)):
        config.write_text(json.dumps({"id2label": names}))
        assert model_classes(place) == expected
    for text in ("{", "[]", '{"id2label": {"x": "a"}}', '{"id2label": 3}'):
        config.write_text(text)
        with pytest.raises(InputError, match="config.json: not a readable config"):
            model_classes(place)


@pytest.mark.parametrize("model, data, order", [
    (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("entailment", "neutral", "contradiction"),
     [2, 1, 0]),
    (("a", "b"), ("a", "b"), [0, 1]),
    (("a", "b"), ("a", "c"), None),
    (("a", "b", "c"), ("a", "c"), None),
    (("a", "b"), ("a", "A"), None),
])
def test_columns_follow_the_names(model, data, order):
    assert column_order(model, data) == order
