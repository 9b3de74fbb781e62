"""The files of the sound experiment, published or made here, as Samples."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples, probs_of
from experiment.inputs.targets import read_targets
from speech import data, features, noise

PUBLISHED_TASK = "esc50"  # its files are in the cache folder itself


def task_folder(cache_dir: Path, task: str) -> Path:
    """The folder of a task's files: for esc50 `cache_dir` itself, else a folder in it."""
    return cache_dir if task == PUBLISHED_TASK else cache_dir / task


def load_train(folder: Path, epoch: int, extraction: Extraction | None = None, *,
               data_dir: Path | None = None, model_folder: Path | None = None) -> Samples:
    """The training clips with their given labels, and which are wrong if that is known.

    `folder` holds target_noisy0.1.pt and feat_train_<epoch>.pt; missing features are extracted by
    audio_model_epoch<epoch>.pth from the clips of `data_dir` (default: data/ in the folder) and
    cached. `model_folder`: features of that Hugging Face AST instead, cached under its name.
    Without a target file, the labels are those of an explicit `data_dir`, and none is known to be
    wrong.

    Raises InputError for files that are missing or do not fit together.
    """
    extraction = extraction or Extraction()
    clips = None
    if data_dir is not None or (folder / "data").is_dir():
        clips = data.read_clips(data_dir or folder / "data")
    target = folder / noise.TARGETS
    if data_dir is not None and not target.is_file():
        labels, is_noisy = clips.labels, None
    else:
        _, labels, is_noisy = read_targets(target)
    if clips is not None:
        noise.check_count(target, labels, clips)
    path, content, notes = features.of_epoch(folder, epoch, clips, extraction) \
        if model_folder is None else features.of_model(folder, model_folder, clips, extraction)
    logits = content["logit"]
    named = clips is not None and len(clips.class_names) == logits.shape[1]
    if clips is not None and not named:
        notes.append(f"the model has {logits.shape[1]} classes, {clips.folder} has "
                     f"{len(clips.class_names)}: was it trained on these clips?")
    return Samples(source=str(path), features=content["feat"], logits=logits,
                   probs=probs_of(logits), labels=labels, is_noisy=is_noisy, notes=tuple(notes),
                   ids=None if clips is None else [path.name for path in clips.files],
                   class_names=clips.class_names if named else None, held_out=False,
                   media=None if clips is None else partial(_listen, clips.files))


def _listen(files: Sequence[Path], row: int) -> media.Media:
    return media.sound(data.read_wave(files[row], media.RATE), media.RATE)
