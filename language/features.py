"""Features and logits of texts, and the files that cache them.

feat_<split>.pt is a dict: feat_cls (N, D), logit (N, C). feat_cls is the last layer's hidden state
at the first token (<s> of RoBERTa), as it enters the classification head; of networks that see only
what comes before, such as GPT-2, at the last token.
A file written here has feat_<split>.json beside it, which records its origin; one without (the
published files) is used as it is.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from experiment.command import out_of_memory
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.extraction import Extraction
from language.data import Texts
from language.layout import Place

if TYPE_CHECKING:
    from language.models import Classifier


def obtain(place: Place, split: str, texts: Texts | None, extraction: Extraction
           ) -> dict[str, Tensor]:
    """feat_cls and logit of a split: from the file, or extracted if it is missing or outdated.

    texts may be None if a file exists. Raises InputError for an unusable file or model, and for an
    outdated file without texts.
    """
    path = place.features / f"feat_{split}.pt"
    origin = {"weights": fingerprint(place.weights)}
    if texts is not None:
        origin |= {"texts": texts.fingerprint(), "max_length": extraction.max_length}
    elif not writing.is_from(path, origin, published=True):
        raise InputError(f"{path}: extracted from other weights than {place.weights} holds now; "
                         f"give the texts with --data_dir, to recompute it")
    # Memory-mapped: MNLI's features are 1.2 GB.
    return writing.cached(path, origin, partial(_extract, place, texts, extraction),
                              read=read, published=True)


def _extract(place: Place, texts: Texts, extraction: Extraction) -> dict[str, Tensor]:
    from language import models  # transformers takes seconds to import

    device = find_device(extraction.device)
    classifier = models.load(place.weights, place.homes)
    classes = classifier.model.config.num_labels
    if texts.class_names and len(texts.class_names) != classes:
        raise InputError(f"{place.weights}: expected a model of {len(texts.class_names)} classes "
                         f"({', '.join(texts.class_names)}), got one of {classes}")
    return extract(classifier, texts, device=device, batch_size=extraction.batch_size,
                   max_length=extraction.max_length, progress=extraction.progress)


@torch.no_grad()
def extract(classifier: "Classifier", texts: Texts, *, device: torch.device, batch_size: int,
            max_length: int = Extraction.max_length, progress: bool = False, mean: bool = False
            ) -> dict[str, Tensor]:
    """feat_cls (N, D) and logit (N, C), float32 on the CPU, in the order of the texts; with `mean`
    also feat_mean (N, D), the mean of the last hidden states over a text's tokens.

    Encoders put a token for the whole text first; if it cannot see the others (GPT-like models),
    the feature is taken at the last token, which the head reads. Texts are batched by length to
    save padding. In memory: the model, one batch and the result.
    """
    from language import models

    classifier.model.to(device).eval()
    at_last = models.reads_forward_only(classifier.model)
    content: dict[str, Tensor] = {}
    order = torch.tensor([len(text) for text in texts.joined()]).argsort(descending=True)
    bar = tqdm(total=len(texts), desc="features", unit=" texts", delay=1, disable=not progress)
    with bar:
        for rows in order.split(batch_size):
            def forward(size: int, rows: Tensor = rows) -> tuple[list[dict[str, Tensor]], int]:
                return [_forward(classifier, texts.take(part.tolist()), max_length, at_last)
                        for part in rows.split(size)], size
            parts, batch_size = out_of_memory.extracting(forward, batch_size, "text")
            for name in ("feat_cls", "logit", *(["feat_mean"] if mean else [])):
                values = torch.cat([part[name] for part in parts])
                if name not in content:
                    content[name] = torch.empty(len(texts), values.shape[1])
                content[name][rows] = values
            bar.update(len(rows))
    return content


def _forward(classifier: "Classifier", columns: Sequence[list[str]], max_length: int,
             at_last: bool) -> dict[str, Tensor]:
    """What `extract` gives for one batch, on the CPU."""
    device = classifier.model.device
    batch = classifier.encode(columns, max_length).to(device)
    outputs = classifier.model(**batch, output_hidden_states=True)
    hidden, mask = outputs.hidden_states[-1], batch["attention_mask"]
    at = mask.sum(1) - 1 if at_last else 0
    mean = (hidden * mask[:, :, None]).sum(1) / mask[:, :, None].sum(1)
    found = {"feat_cls": hidden[torch.arange(len(mask), device=device), at],
             "logit": outputs.logits, "feat_mean": mean}
    return {name: values.float().cpu() for name, values in found.items()}


def read(path: Path) -> dict[str, Tensor]:
    """feat_cls and logit of a feature file. Raises InputError if one is missing."""
    content = reading.load(path)
    names = ("feat_cls", "logit")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), Tensor)
                                                for name in names):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else \
            type(content).__name__
        raise InputError(f"{path}: expected a dict of the tensors feat_cls and logit, got {found}")
    shapes = {name: tuple(content[name].shape) for name in names}
    if any(len(shape) != 2 or shape[0] != shapes["logit"][0] for shape in shapes.values()):
        raise InputError(f"{path}: expected feat_cls (N, D) and logit (N, C), got {shapes}")
    return {name: content[name] for name in names}


def fingerprint(weights: Path) -> str | None:
    """SHA-256 over the files of weights in a folder; None if there are none."""
    files = sorted([*weights.glob("*.safetensors"), *weights.glob("pytorch_model*.bin")])
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else None
