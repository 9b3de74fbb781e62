import json
from dataclasses import replace

import pytest
import torch
from transformers import RobertaConfig

from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.extraction import Extraction
from experiment.inputs.targets import read_targets
from language import features, layout, models
from language.data import Columns
from language.noise import TARGET, save_targets
from language.samples import load_train

QUIET = Extraction(batch_size=16, device="cpu", progress=False)


def mine(folder, data_dir, model_folder, max_length=128, **how):
    return load_train(folder, None, replace(QUIET, max_length=max_length),
                      model_name=str(model_folder), data_dir=data_dir, **how)


def test_published_files_suffice(published):
    samples = load_train(published / "sst2")
    assert samples.features.shape == (80, 8) and samples.probs.shape == (80, 2)
    assert samples.is_noisy.nonzero()[:, 0].tolist() == list(range(0, 80, 10))
    assert samples.ids is None and samples.class_names == ("negative", "positive")
    assert samples.media is None  # texts that are not at hand are not fetched to be shown
    assert not list(published.rglob("*.json")) or not list(published.rglob("feat_train.json"))


def test_texts_at_hand_are_the_identifiers(published, data_dir, table):
    samples = load_train(published / "sst2", 4, QUIET, data_dir=data_dir)
    assert samples.ids == table["sentence"][:80].tolist()
    assert samples.every(3).media(6) == ("text", samples.ids[6]) and samples.held_out is False


def test_own_texts_and_model(tmp_path, data_dir, model_folder, texts):
    samples = mine(tmp_path / "cache/mine", data_dir, model_folder)
    expected = features.extract(models.load(model_folder, [model_folder]), texts,
                                device=torch.device("cpu"), batch_size=16)
    assert torch.equal(samples.features, expected["feat_cls"])
    assert torch.equal(samples.logits, expected["logit"])
    assert torch.equal(samples.labels, texts.labels) and samples.is_noisy is None
    note, = samples.notes
    assert note.endswith("target0.1_large_4.pt is missing: these are the data's own")
    written, = (tmp_path / "cache/mine").rglob("feat_train.pt")
    assert set(reading.load(written)) == {"feat_cls", "logit"}


def test_columns_of_the_model_are_put_in_the_order_of_the_data(tmp_path, data_dir, model_folder):
    straight = mine(tmp_path / "cache/sst2", data_dir, model_folder, clean=True)
    config = json.loads((model_folder / "config.json").read_text())
    config |= {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"},
               "label2id": {"POSITIVE": 0, "NEGATIVE": 1}}
    (model_folder / "config.json").write_text(json.dumps(config))
    turned = mine(tmp_path / "cache/sst2", data_dir, model_folder, clean=True)
    assert torch.equal(turned.probs, straight.probs[:, [1, 0]])


def test_features_are_made_anew_only_when_weights_texts_or_length_change(
        tmp_path, data_dir, model_folder, classifier, monkeypatch):
    extracted = []
    extract = features.extract
    monkeypatch.setattr(features, "extract", lambda *words, **how: extracted.append(how)
                        or extract(*words, **how))

    def runs(**how):
        extracted.clear()
        mine(tmp_path / "cache/mine", data_dir, model_folder, **how)
        return len(extracted)
    assert [runs(), runs(), runs(max_length=9), runs(max_length=9), runs()] == [1, 0, 1, 0, 1]
    text = (data_dir / "train.tsv").read_text()
    (data_dir / "train.tsv").write_text(text.replace("good", "well done", 1))
    assert [runs(), runs()] == [1, 0]
    with torch.no_grad():
        classifier.model.classifier.out_proj.bias += 1
    classifier.model.save_pretrained(model_folder)
    assert [runs(), runs()] == [1, 0]


def test_outdated_features_without_texts_are_refused(tmp_path, data_dir, model_folder):
    folder = tmp_path / "cache/sst2"
    samples = mine(folder, data_dir, model_folder, clean=True)
    save_targets(samples.labels, torch.tensor([3]), folder / TARGET)
    assert mine(folder, None, model_folder).ids is None  # nothing needs the texts
    with open(model_folder / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(InputError, match="extracted from other weights .* with --data_dir"):
        mine(folder, None, model_folder)


def test_model_of_another_number_of_classes_is_refused_before_the_work(
        tmp_path, data_dir, model_folder, monkeypatch):
    monkeypatch.setattr(features, "extract", None)
    with pytest.raises(InputError, match="expected a model of 3 classes .entailment, neutral, con"
                                         ".*, got one of 2"):
        mine(tmp_path / "cache/mnli", data_dir, model_folder, columns=Columns(["sentence"]),
             clean=True)


def test_no_texts_anywhere(published):
    (published / "sst2").rename(published / "mine")
    (published / "mine" / TARGET).unlink()
    with pytest.raises(InputError, match="--task_name mine: no texts"):
        load_train(published / "mine", model_name=layout.PUBLISHED)


@pytest.mark.parametrize("content, message", [
    ([1], "feat_train.pt: expected a dict of the tensors feat_cls and logit, got list"),
    ({"feat": torch.ones(80, 2), "logit": torch.ones(80, 2)}, "feat_cls and logit, got feat, log"),
    ({"feat_cls": torch.ones(80), "logit": torch.ones(80, 2)}, r"expected feat_cls \(N, D\) and"),
    ({"feat_cls": torch.ones(9, 2), "logit": torch.ones(9, 2)},
     "target0.1_large_4.pt: expected 9 rows as in .*feat_train.pt, got 80"),
    ({"feat_cls": torch.ones(80, 2), "logit": torch.ones(80, 3)},
     "feat_train.pt: class_names: expected 3 entries, got 2"),
])
def test_refuses_feature_files(published, content, message):
    writing.save(content, published / "sst2" / layout.PUBLISHED / "epoch_4/feat_train.pt")
    with pytest.raises(InputError, match=message):
        load_train(published / "sst2")


def test_config_of_another_number_of_classes_than_the_features_is_refused(published):
    RobertaConfig(id2label={0: "a", 1: "b", 2: "c"}).save_pretrained(
        published / "sst2" / layout.PUBLISHED)
    (published / "sst2").rename(published / "mine")
    with pytest.raises(InputError, match="feat_train.pt: expected 3 columns of logit, one for each "
                                         "class in .*config.json, got 2"):
        load_train(published / "mine", model_name=layout.PUBLISHED)


@pytest.mark.parametrize("task", ["sst2", "mnli"])
def test_published_task_without_its_noisy_labels_is_refused(published, data_dir, task):
    (published / "sst2" / TARGET).unlink()
    folder = (published / "sst2").rename(published / task)
    with pytest.raises(InputError, match=f"{TARGET}: no such file; python language/download.py "
                                         f"-t {task} fetches it, language/make_noise.py makes one"):
        load_train(folder, data_dir=data_dir)


def with_rate(published, name, rate="0.2"):
    """The published model under another name, and noisy labels of another rate."""
    (published / "sst2" / layout.PUBLISHED).rename(published / "sst2" / name)
    save_targets(torch.arange(80) % 2, torch.arange(4), published / f"sst2/target{rate}_large_4.pt")
    return published / "sst2"


@pytest.mark.parametrize("name", ["roberta-base_fp16_noise0.2", "noise0.20", "a_noise0.2_seed1"])
def test_rate_of_the_noise_is_in_the_models_name(published, name):
    folder = with_rate(published, name)
    samples = load_train(folder, 4, model_name=name)
    assert samples.is_noisy.nonzero()[:, 0].tolist() == [0, 1, 2, 3] and not samples.notes
    by_path = folder / name / "epoch_4"  # the folder of an epoch carries its model's name
    RobertaConfig(num_labels=2).save_pretrained(by_path)
    writing.save(reading.load(by_path / "feat_train.pt"),
                 layout.locate(folder, str(by_path), 4).features / "feat_train.pt")
    assert torch.equal(load_train(folder, 4, model_name=str(by_path)).labels, samples.labels)


@pytest.mark.parametrize("task", ["sst2", "mine"])
def test_labels_of_another_rate_than_the_models_are_refused(published, task):
    folder = with_rate(published, "roberta-base_fp16_noise0.3").rename(published / task)
    with pytest.raises(InputError, match=r"target0.3_large_4.pt: no such file, though the model's "
                                         r"name roberta-base_fp16_noise0.3 states noise 0.3; .* "
                                         r"\(target0.1_large_4.pt, target0.2_large_4.pt\)"):
        load_train(folder, model_name="roberta-base_fp16_noise0.3")
    for path in folder.glob("target*"):
        path.unlink()
    if task == "sst2":
        with pytest.raises(InputError, match="target0.3_large_4.pt: no such file; the model's name "
                                             "roberta-base_fp16_noise0.3 asks for it"):
            load_train(folder, model_name="roberta-base_fp16_noise0.3")


def test_name_without_a_rate_keeps_the_published_one_and_says_so(published):
    folder = with_rate(published, "mine")
    samples = load_train(folder, model_name="mine")
    assert samples.is_noisy.nonzero()[:, 0].tolist() == list(range(0, 80, 10))
    assert samples.notes == ("the model's name mine states no rate of noise: noisy labels are "
                             "those of target0.1_large_4.pt, the published rate",)
    (folder / TARGET).unlink()
    with pytest.raises(InputError, match="the model's name mine states no rate of noise; expected"):
        load_train(folder, model_name="mine")


def test_texts_of_another_length_are_refused(published, data_dir, table):
    table[:10].to_csv(data_dir / "train.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="train.tsv: expected 80 rows as in .*, got 10"):
        load_train(published / "sst2", data_dir=data_dir)


@pytest.mark.parametrize("changed", [[2, 0], torch.tensor([0, 2]), torch.tensor([0, 2]).numpy()])
def test_targets_in_every_kind_of_list(tmp_path, changed):
    writing.save({"idx_clean": None, "idx_chg": changed, "targets": [1, 0, 1]}, tmp_path / "t.pt")
    _, labels, is_noisy = read_targets(tmp_path / "t.pt")
    assert labels.tolist() == [1, 0, 1] and is_noisy.tolist() == [True, False, True]


def test_targets_are_written_as_published(tmp_path):
    save_targets(torch.tensor([1, 0]), torch.tensor([1]), tmp_path / "t.pt")
    content = reading.load(tmp_path / "t.pt")
    assert content["idx_clean"] is None and content["targets"] == [1, 0]
    assert content["idx_chg"].tolist() == [1]


@pytest.mark.parametrize("content, message", [
    ({"targets": [1]}, "expected a dict with targets and idx_chg"),
    ([1], "expected a dict with targets and idx_chg"),
    ({"targets": ["a"], "idx_chg": []}, "targets: expected integers"),
    ({"targets": [0.5], "idx_chg": []}, "targets: expected a list of integers, got torch.float32"),
    ({"targets": [1], "idx_chg": [1]}, "idx_chg: expected positions from 0 to 0, got 1 to 1"),
])
def test_refuses_targets(tmp_path, content, message):
    writing.save(content, tmp_path / "t.pt")
    with pytest.raises(InputError, match=f"t.pt: {message}"):
        read_targets(tmp_path / "t.pt")


def test_unknown_labels_in_the_targets(published):
    save_targets(torch.full((80,), 2), torch.tensor([0]), published / "sst2" / TARGET)
    with pytest.raises(InputError, match="labels: expected 0 to 1, got 2 in row 0"):
        load_train(published / "sst2")


def test_clean_labels_are_the_datas_own(published, data_dir, texts):
    samples = load_train(published / "sst2", 4, QUIET, clean=True, data_dir=data_dir)
    assert torch.equal(samples.labels, texts.labels) and samples.is_noisy is None
