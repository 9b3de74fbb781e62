"""Sentences with a plain rule, a small RoBERTa, and experiments in the published layout."""

import random
from pathlib import Path

import pandas
import pytest
import torch
from transformers import RobertaConfig

from experiment.files import writing
from language import data, demo

PRAISE, BLAME = ("good", "lovely", "great", "clever"), ("bad", "dull", "poor", "silly")
THINGS = ("film", "plot", "song", "cast", "scene", "end")


def sentences(n):
    """n different sentences in an order without a pattern, and their labels, 1 = positive."""
    pairs = [(f"the {thing} of the {whole} is {word} .", label)
             for label, words in enumerate((BLAME, PRAISE)) for word in words
             for thing in THINGS for whole in THINGS]
    random.Random(0).shuffle(pairs)
    return zip(*pairs[:n])


@pytest.fixture
def table():
    """96 rows of SST-2's kind."""
    texts, labels = sentences(96)
    return pandas.DataFrame({"sentence": texts, "label": labels})


@pytest.fixture
def data_dir(tmp_path, table):
    """The table as GLUE's own files: 80 rows to train on, 16 held out."""
    folder = tmp_path / "glue"
    folder.mkdir()
    table[:80].to_csv(folder / "train.tsv", sep="\t", index=False)
    table[80:].to_csv(folder / "dev.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def texts(data_dir):
    return data.load("sst2", "train", data_dir)


@pytest.fixture
def classifier(texts):
    """Two layers, random weights and a vocabulary of its own."""
    return demo.tiny_roberta(texts)


@pytest.fixture
def model_folder(tmp_path, classifier):
    """What save_pretrained writes, as anyone has it; weights in half precision."""
    folder = tmp_path / "models/mine"
    classifier.model.half().save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    classifier.model.float()
    return folder


@pytest.fixture
def published(tmp_path, data_dir) -> Path:
    """A cache folder with sst2 as it is published: features and targets, no texts, no weights.

    80 rows in two separated classes, rows 0, 10, ..., 70 with the wrong label.
    """
    true = torch.arange(80) % 2
    generator = torch.Generator().manual_seed(0)
    feat = 2 * torch.eye(8)[true] + 0.2 * torch.randn(80, 8, generator=generator)
    targets, changed = true.clone(), torch.arange(0, 80, 10)
    targets[changed] = 1 - targets[changed]
    model = tmp_path / "cache/sst2/roberta-base_fp16_noise0.1"
    writing.save({"feat_cls": feat, "logit": 4 * torch.eye(2)[true]},
                 model / "epoch_4/feat_train.pt")
    writing.save({"idx_clean": None, "idx_chg": changed, "targets": targets.tolist()},
                 tmp_path / "cache/sst2/target0.1_large_4.pt")
    RobertaConfig(num_labels=2).save_pretrained(model)
    return tmp_path / "cache"
