"""Features and logits of texts, and the files that keep them.

feat_<split>.pt is a dict: feat_cls (N, D) the last hidden state at the first token, logit (N, C).
A file that was written here has feat_<split>.json beside it, which says what it came from; one
without (the published files) is taken as it is.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.extraction import Extraction
from language.data import Texts
from language.layout import Place

if TYPE_CHECKING:
    from language.models import Classifier

MAX_LENGTH = 128  # tokens of a text or pair, as is usual for GLUE; what is longer is cut


def obtain(place: Place, split: str, texts: Texts | None, extraction: Extraction, *,
           max_length: int = MAX_LENGTH) -> dict[str, Tensor]:
    """feat_cls and logit of a split: from the file, or extracted where it is missing or outdated.

    texts may be None where a file exists. Raises InputError for an unusable file or model, and for
    a file that is outdated while there are no texts.
    """
    path = place.features / f"feat_{split}.pt"
    origin = {"weights": fingerprint(place.weights)}
    if texts is not None:
        origin |= {"texts": texts.fingerprint(), "max_length": max_length}
    if path.is_file() and _came_from(path.with_suffix(".json"), origin):
        return read(path)
    if texts is None:
        raise InputError(f"{path}: extracted from other weights than {place.weights} holds now; "
                         f"give the texts with --data_dir, so that it can be made anew")
    writing.check_writable(place.features)
    with writing.alone(place.features):
        if not (path.is_file() and _came_from(path.with_suffix(".json"), origin)):
            _make(path, place, texts, origin, extraction, max_length)
    return read(path)  # memory-mapped: MNLI's features are 1.2 GB


def _make(path: Path, place: Place, texts: Texts, origin: dict, extraction: Extraction,
          max_length: int) -> None:
    from language import models  # transformers takes seconds to import

    device = find_device(extraction.device)
    classifier = models.load(place.weights, place.homes)
    classes = classifier.model.config.num_labels
    if texts.class_names and len(texts.class_names) != classes:
        raise InputError(f"{place.weights}: expected a model of {len(texts.class_names)} classes "
                         f"({', '.join(texts.class_names)}), got one of {classes}")
    content = extract(classifier, texts, device=device, batch_size=extraction.batch_size,
                      max_length=max_length, progress=extraction.progress)
    # In this order a crash leaves no file, never one that seems to be of this origin.
    path.unlink(missing_ok=True)
    writing.save_json(origin, path.with_suffix(".json"))
    writing.save(content, path)


@torch.no_grad()
def extract(classifier: "Classifier", texts: Texts, *, device: torch.device, batch_size: int,
            max_length: int = MAX_LENGTH, progress: bool = False, mean: bool = False
            ) -> dict[str, Tensor]:
    """feat_cls (N, D) and logit (N, C), float32 on the CPU, in the order of the texts; with `mean`
    also feat_mean (N, D), the mean of the last hidden states over a text's tokens.

    The first token is the one that encoders put there for the whole text; where it cannot see the
    others (GPT-like models), the feature is taken at the last token, which the head reads. Texts
    are batched by length, so that little is spent on padding. Held in memory: the model, one batch
    and the result.
    """
    from language import models

    model = classifier.model.to(device).eval()
    at_last = models.reads_forward_only(model)
    content: dict[str, Tensor] = {}
    order = torch.tensor([len(text) for text in texts.joined()]).argsort(descending=True)
    bar = tqdm(total=len(texts), desc="features", unit=" texts", delay=1, disable=not progress)
    with bar:
        for rows in order.split(batch_size):
            batch = classifier.encode(texts.take(rows.tolist()), max_length).to(device)
            outputs = model(**batch, output_hidden_states=True)
            at = batch["attention_mask"].sum(1) - 1 if at_last else 0
            hidden, mask = outputs.hidden_states[-1], batch["attention_mask"][:, :, None]
            found = {"feat_cls": hidden[torch.arange(len(rows), device=device), at],
                     "logit": outputs.logits}
            if mean:
                found["feat_mean"] = (hidden * mask).sum(1) / mask.sum(1)
            for name, values in found.items():
                if name not in content:
                    content[name] = torch.empty(len(texts), values.shape[1])
                content[name][rows] = values.float().cpu()
            bar.update(len(rows))
    return content


def read(path: Path) -> dict[str, Tensor]:
    """feat_cls and logit of a feature file. Raises InputError where one is missing."""
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


def _came_from(sidecar: Path, origin: dict) -> bool:
    """Whether a feature file is of this origin, as far as that can be told."""
    recorded = reading.recorded(sidecar)
    return not sidecar.is_file() or all(recorded.get(key) == value for key, value in origin.items()
                                        if value is not None)


def fingerprint(weights: Path) -> str | None:
    """SHA-256 over the files of weights in a folder; None where there are none."""
    files = sorted([*weights.glob("*.safetensors"), *weights.glob("pytorch_model*.bin")])
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else None
