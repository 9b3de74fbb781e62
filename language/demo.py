"""The demo: the whole SST-2 and MNLI experiment in small, without a network connection.

The texts are paragraphs from the documentation strings of matplotlib, networkx and scikit-learn,
read from the installed packages (none of them is part of this project); the class of a paragraph is
its package. A two-layer RoBERTa with random weights and its own vocabulary is fit to the clean
labels, the published recipe makes noisy ones from its probabilities, a second one is fit to those.
"""

import ast
import importlib.util
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pandas
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.extraction import Extraction
from experiment.inputs.targets import read_targets
from language import data, features, layout, noise
from language.data import Texts
from language.models import Classifier
from language.schedule import Schedule
from language.training import train

PACKAGES = {"drawing": "matplotlib", "graphs": "networkx", "learning": "sklearn"}
PER_CLASS = {"train": 1500, "validation": 150}
WORDS = range(8, 41)  # of a paragraph
PROSE = re.compile(r"[A-Z][A-Za-z0-9 ,.;:'()`*-]*\.")  # sentences, not code, tables or markup
CLEAN = "roberta-tiny"  # plays the part of the RoBERTa-Large
VOCABULARY = 4000
SCHEDULE = Schedule(epochs=layout.EPOCH, learning_rate=5e-4, max_length=48)


def make(folder: Path, extraction: Extraction) -> None:
    """Texts, clean model, noisy labels, noisy model and features, laid out as the published files.

    Finished parts stay, so that a stopped run can be resumed.
    """
    where, target = folder / "data", folder / noise.TARGET
    if not data.has_split("validation", where):
        _write_texts(where)
    texts, validation = (data.load(folder.name, split, where) for split in PER_CLASS)
    print(f"{where}: {len(texts):,} texts, {len(validation):,} more held out", flush=True)

    def fit(name: str, labels: Tensor) -> layout.Place:
        print(f"{folder / name}: fitting", flush=True)
        start = tiny_roberta(texts)
        start.model.to(find_device(extraction.device))
        train(start, texts, labels, folder / name, schedule=SCHEDULE, validation=validation,
              progress=extraction.progress)
        return layout.locate(folder, name, layout.EPOCH)

    place = fit(CLEAN, texts.labels)
    if not target.is_file():
        logits = features.obtain(place, "train", texts, extraction)["logit"]
        noise.save_targets(*noise.noisy_labels(logits.softmax(1), texts.labels), target)
    _, labels, is_noisy = read_targets(target)
    print(f"{target}: {int(is_noisy.sum()):,} labels made wrong", flush=True)
    place = fit(layout.DEMO, labels)
    for split, part in (("train", texts), ("validation", validation)):
        features.obtain(place, split, part, extraction)
    print(f"{place.features}: features of both splits")


def paragraphs(package: str) -> list[str]:
    """The different paragraphs of English prose in a package's documentation strings."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise InputError(f"the demo's texts come from the package {package}, which is missing "
                         f"(pip install -r requirements.txt)")
    found: dict[str, None] = {}
    for docstring in _docstrings(Path(spec.submodule_search_locations[0])):
        for paragraph in re.split(r"\n\s*\n", docstring):
            text = " ".join(paragraph.split())
            if len(text.split()) in WORDS and "---" not in text and PROSE.fullmatch(text):
                found[text] = None
    return list(found)


def _docstrings(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        if "tests" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # packages ship templates and files for other Pythons too
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield ast.get_docstring(node) or ""


def _write_texts(folder: Path) -> None:
    rows = {split: [] for split in PER_CLASS}
    draw = random.Random(0)
    for name, package in PACKAGES.items():
        texts = paragraphs(package)
        draw.shuffle(texts)
        for split, count in PER_CLASS.items():
            rows[split] += [(text, name) for text in texts[:count]]
            del texts[:count]
    for split, pairs in rows.items():
        draw.shuffle(pairs)
        with writing.replacing(folder / f"{split}.csv") as temporary:
            pandas.DataFrame(pairs, columns=["text", "label"]).to_csv(temporary, index=False)


def tiny_roberta(texts: Texts) -> Classifier:
    """Two layers of width 64, random weights, and a vocabulary learnt from the texts."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts.joined(), vocab_size=VOCABULARY, show_progress=False,
                            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    parts = json.loads(bpe.to_str())["model"]
    tokenizer = RobertaTokenizer(vocab=parts["vocab"], merges=[tuple(m) for m in parts["merges"]])
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=SCHEDULE.max_length + 2,
        id2label=dict(enumerate(texts.class_names)),
        label2id={name: label for label, name in enumerate(texts.class_names)})
    torch.manual_seed(0)
    return Classifier(RobertaForSequenceClassification(config), tokenizer)
