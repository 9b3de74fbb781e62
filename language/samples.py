"""The files of a language experiment as Samples."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples, probs_of
from language import data, features, layout

TARGET = "target0.1_large_4.pt"


def load_train(folder: Path, epoch: int | None = None, extraction: Extraction | None = None, *,
               clean: bool = False, model_name: str | None = None, data_dir: Path | None = None,
               text_columns: Sequence[str] | None = None, label_column: str | None = None,
               max_length: int = features.MAX_LENGTH) -> Samples:
    """The training set of the task `folder.name`, as a model sees it.

    Labels are those of target0.1_large_4.pt in the folder, which also says which are wrong. With
    `clean`, or for a task other than sst2 and mnli without that file (notes then say so), they are
    the data's own, and no truth is known. Texts are read where they are at hand (they are the
    identifiers then), and fetched only if features or labels are missing.

    Raises InputError for a missing or unusable file, and for files that do not fit together.
    """
    place = layout.locate(folder, model_name, layout.EPOCH if epoch is None else epoch)
    path, target = place.features / "feat_train.pt", folder / TARGET
    missing = not clean and not target.is_file()
    if missing and folder.name in data.CLASS_NAMES:  # its own labels would pass for the noisy ones
        raise InputError(f"{target}: no such file; python language/download.py -t {folder.name} "
                         f"fetches it, language/make_noise.py makes one (to use your own labels, "
                         f"choose another --task_name)")
    noisy = None if clean or missing else read_targets(target)
    where, texts = data.find_folder(folder, data_dir), None
    if where is not None or noisy is None or not path.is_file():
        texts = data.load(folder.name, "train", where, need_labels=noisy is None,
                          text_columns=text_columns, label_column=label_column)
    content = features.obtain(place, "train", texts, extraction or Extraction(),
                              max_length=max_length)
    labels, is_noisy = noisy or (texts.labels, None)
    n = len(content["feat_cls"])
    for source, rows in ((texts and texts.source, texts), (target, labels)):
        if rows is not None and len(rows) != n:
            raise InputError(f"{source}: expected {n} rows as in {path}, got {len(rows)}")
    logits, model_names = content["logit"], layout.model_classes(place)
    if model_names and len(model_names) != logits.shape[1]:
        raise InputError(f"{path}: expected {len(model_names)} columns of logit, one for each "
                         f"class in {layout.config_of(place)}, got {logits.shape[1]}")
    class_names = (texts and texts.class_names) or data.CLASS_NAMES.get(folder.name) or model_names
    if model_names and (order := layout.column_order(model_names, class_names)):
        logits = logits[:, order]
    return Samples(source=str(path), features=content["feat_cls"], logits=logits,
                   probs=probs_of(logits), labels=labels, is_noisy=is_noisy,
                   ids=texts and texts.joined(), class_names=class_names, held_out=False,
                   media=texts and partial(_read, texts),
                   notes=(f"no noisy labels, as {target} is missing: these are the data's own",)
                   if missing else ())


def _read(texts: data.Texts, row: int) -> media.Media:
    return media.text("\n".join(column[row] for column in texts.columns))


def read_targets(path: Path) -> tuple[Tensor, Tensor]:
    """Given labels (N,) int64 and is_noisy (N,) bool of a file of noisy labels.

    Raises InputError for anything but a dict of `targets` and `idx_chg` that fit together.
    """
    content = reading.load(path)
    if not isinstance(content, dict) or not {"targets", "idx_chg"} <= set(content):
        raise InputError(f"{path}: expected a dict with targets and idx_chg")
    try:
        labels = torch.as_tensor(content["targets"])
        changed = torch.as_tensor(content["idx_chg"], dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: expected integers in targets and idx_chg ({error})") from error
    if labels.is_floating_point() or labels.ndim != 1:
        raise InputError(f"{path}: targets: expected a list of integers, got {labels.dtype} of "
                         f"shape {tuple(labels.shape)}")
    wrong = (changed < 0) | (changed >= len(labels))
    if wrong.any():
        raise InputError(f"{path}: idx_chg: expected rows 0 to {len(labels) - 1}, got "
                         f"{int(changed[wrong][0])}")
    is_noisy = torch.zeros(len(labels), dtype=torch.bool)
    is_noisy[changed] = True
    return labels.long(), is_noisy


def save_targets(targets: Tensor, changed: Tensor, path: Path) -> None:
    """Write noisy labels in the published form."""
    writing.save({"idx_clean": None, "idx_chg": changed, "targets": targets.tolist()}, path)
