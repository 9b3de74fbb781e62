"""Fine-tuning: a plain loop with the published schedule, a folder per epoch, and resuming.

N texts.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import PreTrainedModel, get_polynomial_decay_schedule_with_warmup

from experiment.command.errors import InputError
from experiment.files import reading, writing
from language import features, layout
from language.data import Texts
from language.models import Classifier, quieten
from language.schedule import WARMUP_SHARE, Schedule


def train(start: Classifier, texts: Texts, labels: Tensor, folder: Path, *, schedule: Schedule,
          validation: Texts | None = None, progress: bool = False) -> None:
    """Fine-tune to labels (N,), one folder epoch_<k> after each epoch k = 1, 2, ...

    AdamW, no weight decay on biases and norms, linear (polynomial of power 1) decay after the
    warm-up (to 1e-7, or a tenth of a rate below 1e-6), fp16 autocast on a GPU; on the device of
    `start`. The folder gets the config and tokenizer, each epoch_<k>/ the weights (float32) and
    training.json; the newest also holds training.pt, from which a run that was stopped in any way
    resumes at the next epoch, with the same steps as an uninterrupted run.

    Prints a line for each epoch. Raises InputError for labels that do not fit the model, a folder
    with the epochs or an unreadable record of another training, a folder that cannot be written,
    and a loss that is not finite.
    """
    quieten()
    settings = _settings(start, texts, labels, schedule)
    writing.check_writable(folder)
    with writing.locked(folder):
        done = _epochs_done(folder, settings)
        _drop_states_before(done, folder)
        if done == schedule.epochs:
            return
        classifier, parts = _resumed(start, folder, done, schedule, settings["steps"])
        for epoch in range(done + 1, schedule.epochs + 1):
            loss = _run_epoch(classifier, texts, labels, epoch, parts, schedule, progress=progress)
            if not loss < float("inf"):
                raise InputError(f"epoch {epoch}: the loss is no longer finite; try a smaller --lr")
            result = {"epoch": epoch, "step": epoch * settings["steps"] // schedule.epochs,
                      "loss": round(loss, 4)}
            if validation is not None:
                result["validation_accuracy"] = _accuracy(classifier, validation, schedule)
            state = {name: part.state_dict() for name, part in parts.items()}
            _save_epoch(folder, epoch, classifier.model, state if epoch < schedule.epochs else None,
                        result | {"settings": settings})
            print(", ".join(f"{name} {value}" for name, value in result.items()), flush=True)


def _settings(start: Classifier, texts: Texts, labels: Tensor, schedule: Schedule) -> dict:
    """What determines the weights, for training.json."""
    classes = start.model.config.num_labels
    if int(labels.max()) >= classes:
        raise InputError(f"labels: expected 0 to {classes - 1}, got {int(labels.max())}")
    return asdict(schedule) | {
        "start": start.model.name_or_path, "device": start.model.device.type,
        "texts": texts.fingerprint(), "labels": hashlib.sha256(labels.numpy()).hexdigest(),
        "steps": -(-len(texts) // schedule.batch_size) * schedule.epochs}


def _resumed(start: Classifier, folder: Path, done: int, schedule: Schedule, steps: int
             ) -> tuple[Classifier, dict]:
    """The classifier after `done` epochs, and its `_parts`."""
    device = start.model.device
    classifier = Classifier(_model_after(done, start.model, folder).to(device), start.tokenizer)
    parts = _parts(classifier.model, schedule, steps)
    if done:
        state = reading.load(folder / f"epoch_{done}" / "training.pt")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    else:
        _save_home(start, folder)
    return classifier, parts


def _run_epoch(classifier: Classifier, texts: Texts, labels: Tensor, epoch: int, parts: dict,
               schedule: Schedule, *, progress: bool) -> float:
    """One pass; returns the mean loss. Order and dropout depend on seed and epoch alone."""
    model = classifier.model.train()
    optimizer, decay, scaler = parts["optimizer"], parts["decay"], parts["scaler"]
    torch.manual_seed(schedule.seed * 1000 + epoch)
    total = torch.zeros((), device=model.device)
    batches = torch.randperm(len(texts)).split(schedule.batch_size)
    for rows in tqdm(batches, desc=f"epoch {epoch}", delay=1, disable=not progress):
        batch = classifier.encode(texts.take(rows.tolist()), schedule.max_length).to(model.device)
        with torch.autocast(model.device.type, torch.float16, enabled=scaler.is_enabled()):
            logits = model(**batch).logits
        loss = cross_entropy(logits.float(), labels[rows].to(model.device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        decay.step()
        total += loss.detach() * len(rows)
    return float(total) / len(texts)


def _parts(model: PreTrainedModel, schedule: Schedule, steps: int) -> dict:
    """What has a state besides the weights: the optimizer, its decay, the scaler of fp16."""
    optimizer = optimizer_of(model, schedule)
    warmup = round(WARMUP_SHARE * steps) if schedule.warmup is None else schedule.warmup
    return {"optimizer": optimizer,
            "decay": get_polynomial_decay_schedule_with_warmup(
                optimizer, warmup, max(steps, warmup + 1),
                lr_end=min(1e-7, schedule.learning_rate / 10)),  # must lie below the rate
            "scaler": torch.amp.GradScaler(model.device.type,
                                           enabled=model.device.type == "cuda")}


def optimizer_of(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW; biases and norm weights, the parameters of one dimension, do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW([
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ], lr=schedule.learning_rate)


def _accuracy(classifier: Classifier, texts: Texts, schedule: Schedule) -> float:
    logits = features.extract(classifier, texts, device=classifier.model.device,
                              batch_size=schedule.batch_size,
                              max_length=schedule.max_length)["logit"]
    return round(float((logits.argmax(1) == texts.labels).float().mean()), 4)


def _epochs_done(folder: Path, settings: dict) -> int:
    """The newest finished epoch, 0 for none; all in the folder must be of these settings."""
    done = 0
    for done in layout.epochs_in(folder):
        record = folder / f"epoch_{done}" / "training.json"
        found = _recorded_settings(record) if record.is_file() else {}
        other = [name for name, value in settings.items() if found.get(name) != value]
        if other:
            raise InputError(f"{record.parent}: from another training, with other "
                             f"{', '.join(other)}; choose another --model_name or remove {folder}")
    return done


def _recorded_settings(record: Path) -> dict:
    try:
        return dict(reading.load_json(record)["settings"])
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record}: expected JSON with the settings of a training ({error}); "
                         f"choose another --model_name or remove {record.parents[1]}") from error


def _model_after(done: int, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    if done == 0:
        return model
    weights = folder / f"epoch_{done}"
    written = reading.recorded(weights / "training.json").get("weights")
    if written not in (None, features.fingerprint(weights)):
        raise InputError(f"{weights}: its weights are not as they were written; remove {folder} "
                         f"to train again")
    return type(model).from_pretrained(weights, dtype=torch.float32,
                                       local_files_only=True)


def _save_home(start: Classifier, folder: Path) -> None:
    """Tokenizer and config, each file whole or not at all."""
    part = folder / ".home.part"
    with _made(part):
        start.tokenizer.save_pretrained(part)
        start.model.config.save_pretrained(part)
        for path in part.iterdir():
            os.replace(path, folder / path.name)


@contextmanager
def _made(part: Path) -> Iterator[None]:
    """A folder for the block to fill, empty at first and gone at the end."""
    shutil.rmtree(part, ignore_errors=True)  # what a killed run left
    try:
        part.mkdir()
        yield
    except Exception as error:
        # tokenizers raises a plain Exception for what the system refuses.
        if isinstance(error, (OSError, SafetensorError)) or "(os error" in str(error):
            raise InputError(f"{part}: cannot be written ({error})") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save_epoch(folder: Path, epoch: int, model: PreTrainedModel, state: dict | None,
                record: dict) -> None:
    """epoch_<k>/ under a temporary name, then renamed: it is there whole or not at all."""
    part = folder / f".epoch_{epoch}.part"
    with _made(part):
        model.save_pretrained(part)
        if state is not None:
            writing.save(state, part / "training.pt")
        writing.save_json(record | {"weights": features.fingerprint(part)}, part / "training.json")
        for path in part.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.replace(part, folder / f"epoch_{epoch}")
    _drop_states_before(epoch, folder)


def _drop_states_before(epoch: int, folder: Path) -> None:
    """Remove training.pt of all earlier epochs, including leftovers of killed runs.

    Each is twice the size of the weights and no longer needed.
    """
    for earlier in layout.epochs_in(folder):
        if earlier < epoch:
            (folder / f"epoch_{earlier}" / "training.pt").unlink(missing_ok=True)
