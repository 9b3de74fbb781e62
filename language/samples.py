"""The files of a language experiment as Samples."""

from functools import partial
from pathlib import Path

from experiment.command.errors import InputError
from experiment.inputs import media
from experiment.inputs.extraction import Extraction
from experiment.inputs.samples import Samples, probs_of
from experiment.inputs.targets import Targets, read_targets
from language import data, features, layout
from language.noise import TARGET, target_file


def load_train(folder: Path, epoch: int | None = None, extraction: Extraction | None = None, *,
               clean: bool = False, model_name: str | None = None, data_dir: Path | None = None,
               columns: data.Columns = data.USUAL) -> Samples:
    """The training set of the task `folder.name`, with features of a model.

    Labels are those of target<rate>_large_4.pt in the folder, with the rate in the model's name (a
    note tells where it has none), which also says which are wrong. With `clean`, or for a task
    other than sst2 and mnli without that file (a note then says so), they are the data's own, and
    it is not known which are wrong. Texts, which serve as identifiers, are read if they are in a
    folder, and downloaded only if features or labels are missing.

    Raises InputError for a missing or unusable file, and for files that do not fit together.
    """
    place = layout.locate(folder, model_name, layout.EPOCH if epoch is None else epoch)
    path = place.features / "feat_train.pt"
    target, noisy, notes = _noisy_labels(folder, place.homes[-1].name, clean)
    where, texts = data.find_folder(folder, data_dir), None
    if where is not None or noisy is None or not path.is_file():
        texts = data.load(folder.name, "train", where, need_labels=noisy is None,
                          text_columns=columns.text, label_column=columns.label)
    content = features.obtain(place, "train", texts, extraction or Extraction())
    labels, is_noisy = (texts.labels, None) if noisy is None else (noisy.labels, noisy.is_noisy)
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
                   notes=notes)


def _noisy_labels(folder: Path, model_name: str, clean: bool
                  ) -> tuple[Path | None, Targets | None, tuple[str, ...]]:
    """The file of the model's noisy labels, and these if it is there; what to say of it."""
    if clean:
        return None, None, ()
    target, notes = target_file(folder, model_name)
    if target.is_file():
        return target, read_targets(target), notes
    if folder.name in data.CLASS_NAMES:  # else mistaken for noisy labels
        how = f"python language/download.py -t {folder.name} fetches it, " \
              f"language/make_noise.py makes one" if target.name == TARGET else \
            f"the model's name {model_name} asks for it"
        raise InputError(f"{target}: no such file; {how} (to use your own labels, choose another "
                         f"--task_name)")
    return target, None, (f"no noisy labels, as {target} is missing: these are the data's own",)


def _read(texts: data.Texts, row: int) -> media.Media:
    return media.text("\n".join(column[row] for column in texts.columns))
