"""The sound experiment as Samples, from the published files or from what is made in their place."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples, probs_of
from speech import data
from speech.data import Clips

PUBLISHED_TASK = "esc50"  # its files lie in the cache folder itself


def task_folder(cache_dir: Path, task: str) -> Path:
    """Where the files of a task lie: esc50 in `cache_dir` itself, others in a folder of theirs."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", task):
        raise InputError(f"--task_name {task!r}: expected letters, digits, '.', '_' and '-' only")
    return cache_dir if task == PUBLISHED_TASK else cache_dir / task


def load_train(folder: Path, epoch: int, extraction: Extraction | None = None, *,
               data_dir: Path | None = None, model_folder: Path | None = None) -> Samples:
    """The training clips with their given labels, and which are wrong where that is known.

    `folder` holds target_noisy0.1.pt and feat_train_<epoch>.pt; where the features are missing
    they are extracted by audio_model_epoch<epoch>.pth from the clips of `data_dir` (default:
    data/ in the folder) and kept. `model_folder`: features of that Hugging Face AST instead, kept
    under its name. Without a file of targets the labels of an explicit `data_dir` are taken as
    given, and nothing is known to be wrong.

    Raises InputError where files are missing or do not fit together.
    """
    extraction = extraction or Extraction()
    clips = None
    if data_dir is not None or (folder / "data").is_dir():
        clips = data.read_clips(data_dir or folder / "data")
    targets = folder / data.TARGETS
    if data_dir is not None and not targets.is_file():
        labels, is_noisy = clips.labels, None
    else:
        labels, is_noisy = data.read_targets(targets)
    if clips is not None:
        data.check_count(targets, labels, clips)
    if model_folder is None:
        path, notes = _published_features(folder, epoch, clips, extraction)
    else:
        path, notes = _folder_features(folder, model_folder, clips, extraction)
    features, logits = _read_features(path)
    named = clips is not None and len(clips.class_names) == logits.shape[1]
    if clips is not None and not named:
        notes = *notes, (f"the model has {logits.shape[1]} classes, {clips.folder} has "
                         f"{len(clips.class_names)}: was it trained on these clips?")
    return Samples(source=str(path), features=features, logits=logits, probs=probs_of(logits),
                   labels=labels, is_noisy=is_noisy, notes=notes,
                   ids=None if clips is None else [path.name for path in clips.files],
                   class_names=clips.class_names if named else None, held_out=False,
                   media=None if clips is None else partial(_listen, clips.files))


def _listen(files: Sequence[Path], row: int) -> media.Media:
    return media.sound(data.read_wave(files[row], media.RATE), media.RATE)


def _published_features(folder: Path, epoch: int, clips: Clips | None, extraction: Extraction
                        ) -> tuple[Path, tuple[str, ...]]:
    path = folder / f"feat_train_{epoch}.pt"
    stamp, checkpoint = path.with_suffix(".json"), folder / f"audio_model_epoch{epoch}.pth"
    origin = _origin([checkpoint], clips) if clips is not None and checkpoint.is_file() else None
    # Published features, and those that a training wrote, have no stamp: they are as they are.
    if path.is_file() and (origin is None or not stamp.is_file()
                           or reading.recorded(stamp) == origin):
        return path, ()
    if not checkpoint.is_file():
        epochs = ", ".join(map(str, _epochs(folder)))
        raise InputError(f"{folder}: neither {path.name} nor {checkpoint.name}; "
                         + (f"there are epochs {epochs}" if epochs else
                            "fetch or make them with speech/download.py or speech/train.py"))
    if clips is None:
        raise InputError(f"{path}: no such file; to extract it with {checkpoint.name} name the "
                         f"folder of the clips by --data_dir")
    from speech import models  # transformers, needed only to extract

    return path, _extract(path, models.load_published(checkpoint), clips, extraction, origin)


def _folder_features(folder: Path, model_folder: Path, clips: Clips | None, extraction: Extraction
                     ) -> tuple[Path, tuple[str, ...]]:
    """Features of a Hugging Face AST, extracted again when it or the clips are not the same."""
    if clips is None:
        raise InputError(f"{model_folder}: to extract features with this model name the folder of "
                         f"the clips by --data_dir")
    path = folder / model_folder.resolve().name / "feat_train.pt"
    origin = _origin(sorted(model_folder.resolve().glob("*")), clips)
    if path.is_file() and reading.recorded(path.with_suffix(".json")) == origin:
        return path, ()
    from speech import models  # transformers, needed only to extract

    return path, _extract(path, models.load_folder(model_folder), clips, extraction, origin)


def _extract(path: Path, network, clips: Clips, extraction: Extraction, origin: dict[str, str]
             ) -> tuple[str, ...]:
    """Write features and the stamp that says where they come from."""
    from speech import features

    writing.check_writable(path.parent)
    banks = features.filter_banks(clips.files, network.front_end, progress=extraction.progress,
                                  batch_size=extraction.batch_size)
    content = features.extract(network, banks, device=find_device(extraction.device))
    with writing.alone(path.parent):
        # In this order a crash leaves no file, never one that seems to be of this origin.
        path.unlink(missing_ok=True)
        writing.save_json(origin, path.with_suffix(".json"))
        writing.save(content, path)
    return data.mixing_notes(clips.files)


def _origin(model: Iterable[Path], clips: Clips) -> dict[str, str]:
    """What features come from: contents are told by names, sizes and times, as make does."""
    def digest(paths: Iterable[Path]) -> str:
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    return {"model": digest(path.resolve() for path in model if path.is_file()),
            "clips": digest(path.resolve() for path in clips.files)}


def _read_features(path: Path) -> tuple[Tensor, Tensor]:
    content = reading.load(path)
    found = list(content) if isinstance(content, dict) else [type(content).__name__]
    for name in ("feat", "logit"):
        if name not in found or not isinstance(content[name], Tensor) or content[name].ndim != 2:
            raise InputError(f"{path}: expected a dict with tensors feat (N, D) and logit (N, C), "
                             f"got {found}")
    return content["feat"], content["logit"]


def _epochs(folder: Path) -> list[int]:
    """Epochs of which the folder holds features or a checkpoint."""
    found = (re.fullmatch(r"(?:feat_train_|audio_model_epoch)(\d+)\.(?:pt|pth)", path.name)
             for path in folder.glob("*"))
    return sorted({int(match[1]) for match in found if match})
