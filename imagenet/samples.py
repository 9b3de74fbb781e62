"""ImageNet's Samples: features from the cache or from images, probabilities, labels.

Features stay memory-mapped. Probabilities are not stored but computed in blocks as
softmax(head(features)): 5 GB for the training set, in an unlinked temporary file, memory-mapped;
picked rows of the features too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from tqdm import tqdm

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, scratch
from experiment.files.scratch import Scratch
from experiment.inputs import targets
from experiment.inputs.extraction import Extraction
from experiment.inputs.media import Media
from experiment.inputs.samples import BLOCK, Samples, probs_of
from imagenet import data, features, heads, models, real_labels
from relation.parallel import in_order
from relation.tiles import row_slices

# Rows of each OOD set in the published features.
PUBLISHED_GROUPS = (("places", 10_000), ("sun", 10_000), ("inat", 10_000), ("dtd", 5_640))
VAL_ROWS_PER_CLASS = 50
HEAD_ROWS = 1024  # rows at a time of the final layer: logits and their softmax stay in cache


def load_train(folder: Path, epoch: int | None, extraction: Extraction) -> Samples:
    """The training set with its given labels; is_noisy if the folder has a target.pt.

    Raises InputError if no labels are known, or files do not fit together.
    """
    experiment = _Experiment.of(folder, epoch, extraction)
    return _train(experiment, _known_labels(experiment), demand_labels=True)


def load_val(folder: Path, epoch: int | None, extraction: Extraction) -> Samples:
    """The validation set with its folders' labels; noisy = all that are not clean under ReaL.

    The names come from the images or from --val_list. Without either, the labels follow from the
    order (50 rows of each class) and the truth stays unknown.
    """
    listed = None if extraction.val_list is None else data.read_list(extraction.val_list)
    experiment = _Experiment.of(folder, epoch, extraction)
    path, rows = experiment.features("val")
    unlisted = ""
    if listed is None:
        listed, unlisted = experiment.listing("val")
        unlisted = unlisted and f" ({unlisted})"
    classes = len(experiment.head.weight)
    if listed is not None:
        if problem := _misfit(listed, len(rows), classes):
            raise InputError(problem)
        names = listed.ids()
        verdicts = real_labels.judge(names, listed.labels)
        known = dict(labels=torch.from_numpy(listed.labels), ids=names, extra={"real": verdicts},
                     is_noisy=torch.tensor([verdict != "clean" for verdict in verdicts]),
                     notes=(real_labels.summary(verdicts),))
        there = data.find_listed(listed, extraction)
        known["media"] = None if there is None else there.media
    elif len(rows) == classes * VAL_ROWS_PER_CLASS:
        known = dict(labels=torch.arange(classes).repeat_interleave(VAL_ROWS_PER_CLASS),
                     notes=("no ReaL labels without the images' names: give --val_list FILE or "
                            f"--imagenet_dir DIR{unlisted}",))
    else:
        raise InputError(f"{path}: {len(rows)} rows are not {VAL_ROWS_PER_CLASS} of each of "
                         f"{classes} classes: their labels need --val_list FILE or --imagenet_dir "
                         f"DIR{unlisted}")
    return experiment.samples(path, rows, held_out=True, **known)


def load_ood(folder: Path, epoch: int | None, extraction: Extraction) -> tuple[Samples, Samples]:
    """Training rows; validation rows (in-distribution, group "id") followed by the OOD rows.

    Training labels that are not known are None, and a note says why.
    """
    experiment = _Experiment.of(folder, epoch, extraction)
    known = _known_labels(experiment)
    val_path, val = experiment.features("val")
    ood_path, ood = experiment.features("ood")
    groups = _groups(len(ood), ood_path, extraction)
    rows = scratch.joined(folder, val, ood)
    _, logits = experiment.apply_head(rows, lambda logits: logits)
    probs = Scratch(folder, *logits.shape)
    for block in row_slices(len(logits), BLOCK):
        probs.write(block.start, probs_of(logits[block]))
    (val_images, val_problem), (ood_images, ood_problem) = map(experiment.listing, ("val", "ood"))
    ids = [_names(val_images, len(val)), _names(ood_images, len(ood))]

    def show(row: int) -> Media:
        return val_images.media(row) if row < len(val) else ood_images.media(row - len(val))

    test = Samples(
        source=f"{val_path}, {ood_path}", features=rows, logits=logits, probs=probs.rows,
        is_ood=torch.arange(len(rows)) >= len(val),
        group=["id"] * len(val) + [name for name, size in groups for _ in range(size)],
        ids=None if None in ids else [*ids[0], *ids[1]], media=None if None in ids else show,
        notes=tuple(f"names of the images unknown: {problem}"
                    for problem in (val_problem, ood_problem) if problem),
        weight=experiment.head.weight, bias=experiment.head.bias, held_out=True,
        progress=extraction.progress)
    return _train(experiment, known, demand_labels=False), test


@dataclass(frozen=True)
class _Experiment:
    """A folder of results, its network, and the user's options."""

    folder: Path
    epoch: int | None
    extraction: Extraction
    network: models.Network
    head: heads.Head

    @classmethod
    def of(cls, folder: Path, epoch: int | None, extraction: Extraction) -> "_Experiment":
        network = models.find(folder, epoch, extraction.checkpoint)
        return cls(folder, epoch, extraction, network, models.read_head(network))

    def features(self, split: str) -> tuple[Path, Tensor]:
        """feat_<split>.pt and its rows (N, D), memory-mapped; extracted if missing or outdated.

        Outdated: its record names other weights or images than those asked for.
        """
        suffix = "" if self.epoch is None else f"_{self.epoch}"
        path = self.folder / "features" / f"feat_{split}{suffix}.pt"
        problem = "no such file (download.py downloads the published ones)"
        if path.is_file():
            problem = self._outdated(split, path)
        if problem:
            try:
                images = data.read(split, self.extraction)
            except InputError as error:
                raise InputError(f"{path}: {problem}, and no images to compute it from: "
                                 f"{error}") from error
            features.extract(self.network, images, path, self.extraction)
        rows = reading.load(path, progress=self.extraction.progress)
        width = self.head.weight.shape[1]
        if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.is_floating_point():
            raise InputError(f"{path}: expected one tensor of floats (N, {width})")
        if rows.shape[1] != width:
            raise InputError(f"{path}: features of width {rows.shape[1]} do not fit the final "
                             f"layer of {self.network.source}, which takes {width}")
        return path, rows

    def _outdated(self, split: str, path: Path) -> str:
        """Why features that were extracted here cannot be used; empty if they can."""
        if not path.with_suffix(".json").is_file():
            return ""  # published: no need to list the images
        problem = features.misfit(path, self.network, self.listing(split)[0])
        if not problem:
            features.tidy(path)
        return problem

    def samples(self, path: Path, rows: Tensor, which: Tensor | None = None, **known: Any
                ) -> Samples:
        rows, probs = self.apply_head(rows, probs_of, which)
        return Samples(source=str(path), features=rows, probs=probs,
                       weight=self.head.weight, bias=self.head.bias,
                       progress=self.extraction.progress, **known)

    def apply_head(self, rows: Tensor, then: Callable[[Tensor], Tensor],
                   which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The rows (N, D), or those of the numbers `which` (N,) in float32, and `then` of their
        logits (N, C), block by block, float32 on the CPU."""
        device = find_device(self.extraction.device)
        weight, bias = (tensor.to(device) for tensor in self.head)
        n = len(rows) if which is None else len(which)
        picked = None if which is None else Scratch(self.folder, n, rows.shape[1])
        result = Scratch(self.folder, n, len(weight))

        @torch.no_grad()  # of each thread's own
        def compute(block: slice) -> None:
            if picked is None:
                some = rows[block]
            else:
                some = rows.index_select(0, which[block]).float()
                picked.write(block.start, some)
            logits = linear(some.to(device, torch.float32), weight, bias)
            result.write(block.start, then(logits).cpu())

        blocks = list(row_slices(n, HEAD_ROWS))
        for _ in tqdm(in_order(compute, blocks, device), total=len(blocks), desc="final layer",
                      unit=" blocks", delay=1, disable=not self.extraction.progress):
            pass
        return rows if picked is None else picked.rows, result.rows

    def listing(self, split: str) -> tuple[data.ImageSet | None, str]:
        """The images, None if their folder is missing; and why they cannot be listed, if so."""
        if not data.is_there(split, self.extraction):
            return None, ""
        try:
            return data.read(split, self.extraction), ""
        except InputError as error:
            return None, str(error)


def _known_labels(experiment: _Experiment) -> targets.Targets | Tensor | None:
    """Labels from target.pt or --train_labels: read first, so that a wrong file fails early."""
    target, file = experiment.folder / "target.pt", experiment.extraction.train_labels
    if not target.is_file():
        return None if file is None else targets.read_labels(file)
    if file is not None:
        raise InputError(f"--train_labels: the experiment has labels of its own in {target}")
    return targets.read_targets(target, need_rows=True)


def _train(experiment: _Experiment, known: targets.Targets | Tensor | None, *,
           demand_labels: bool) -> Samples:
    """The rows the network was trained on; labels None, with a note, if they are not known."""
    if isinstance(known, targets.Targets):
        return _train_on_targets(experiment, known)
    path, rows = experiment.features("train")
    if known is not None and len(known) != len(rows):
        raise InputError(f"{experiment.extraction.train_labels}: {len(known)} labels, but {path} "
                         f"has {len(rows)} rows")
    images, problem = experiment.listing("train")
    unknown = "names of the training images"
    if known is None:
        unknown = "training labels"
        if images is not None:
            problem = _misfit(images, len(rows), len(experiment.head.weight))
            known = None if problem else torch.from_numpy(images.labels)
        elif not problem:
            problem = "no target.pt, no train/ in --imagenet_dir, no --train_labels FILE"
        if problem and demand_labels:
            raise InputError(f"{path}: training labels unknown: {problem}")
    ids = _names(images, len(rows))
    return experiment.samples(path, rows, labels=known, ids=ids, held_out=False,
                              media=None if ids is None else images.media,
                              notes=(f"{unknown} unknown: {problem}",) if problem else ())


def _train_on_targets(experiment: _Experiment, found: targets.Targets) -> Samples:
    """The rows chosen by target.pt, with its labels; ids are row numbers without the images."""
    path, rows = experiment.features("train")
    which = None
    if len(rows) != len(found.labels):
        if len(rows) <= int(found.rows.max()):
            raise InputError(f"{path}: {len(rows)} rows; expected the {len(found.labels)} of "
                             f"{experiment.folder / 'target.pt'}, or the full training set that "
                             f"its idx_clean picks from")
        which = found.rows
    picked = found.rows.tolist()
    ids, show = [str(row) for row in picked], None
    images, problem = experiment.listing("train")
    if images is not None and len(images) > max(picked):
        names = images.ids()
        ids = [names[row] for row in picked]

        def show(row: int) -> Media:
            return images.media(picked[row])

    return experiment.samples(
        path, rows, which, labels=found.labels, is_noisy=found.is_noisy, ids=ids, media=show,
        held_out=False,
        notes=(f"names of the training images unknown: {problem}",) if problem else ())


def _names(images: data.ImageSet | None, n: int) -> list[str] | None:
    """File names of the n rows, if there are as many images."""
    return images.ids() if images is not None and len(images) == n else None


def _misfit(images: data.ImageSet, n: int, classes: int) -> str:
    """Why the images' labels are not those of n rows of features; empty if they are."""
    if len(images) != n:
        return f"{images.root}: {len(images)} images, but the features have {n} rows"
    if images.folders != classes:
        return (f"{images.root}: {images.folders} folders of images, but the network has "
                f"{classes} classes")
    return ""


def _groups(n: int, path: Path, extraction: Extraction) -> tuple[tuple[str, int], ...]:
    """Name and rows of each OOD set, in order: as given, as extracted, as published, or one."""
    if extraction.ood_groups is not None:
        if sum(size for _, size in extraction.ood_groups) != n:
            raise InputError(f"--ood_groups: {sum(size for _, size in extraction.ood_groups)} rows "
                             f"in all, but {path} has {n}")
        return extraction.ood_groups
    record = features.record_of(path)
    extracted = () if record is None else tuple(record.source.get("sets", {}).items())
    for groups in (extracted, PUBLISHED_GROUPS):
        if sum(size for _, size in groups) == n:
            return groups
    return (("ood", n),)
