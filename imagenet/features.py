"""Features of images, cached as feat_<split>_<epoch>.pt, one tensor (N, D) float32.

Finished rows are appended to feat_*.rows, and every few seconds a record in feat_*.json says how
many of them are safely on disk. A killed run resumes from it with the same batches, so the file is
the same to the byte. At the end the rows are copied, memory-mapped, into feat_*.pt: memory never
holds more than a few batches, the disk briefly twice the file. The record stays with the features.
"""

import contextlib
import fcntl
import hashlib
import math
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from experiment.command import out_of_memory
from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs.extraction import Extraction
from imagenet import heads, models
from imagenet.data import Images, ImageSet, collate
from imagenet.transform import transform_of

RECORD_SECONDS = 2.0  # between two records: what a kill can cost
FLOAT_BYTES = 4
READ_BYTES = 2**20  # at a time
TOP = 5  # classes among which an image's own counts as found, besides the first


@dataclass
class Record:
    """Progress and source of an extraction, stored as feat_*.json."""

    source: dict[str, Any]  # network, weights (of the file, and as built), images, sets, precision
    dim: int
    done: int = 0  # rows
    top1: int = 0  # rows whose folder's class has the largest logit
    top5: int = 0
    crc: int = 0  # CRC-32 of those rows as bytes
    unreadable: list[str] = field(default_factory=list)  # why, for each row that is zeros
    unreadable_rows: list[int] = field(default_factory=list)

    @property
    def bytes_done(self) -> int:
        return self.done * self.dim * FLOAT_BYTES


class Batch(NamedTuple):
    """n rows, on the CPU."""

    features: Tensor  # (n, D) float32, zeros where the image could not be read
    guesses: Tensor  # (n, TOP or C) classes by falling logit, -1 where the image could not be read
    problems: dict[int, str]  # position in the batch -> why it could not be read


def extract(network: models.Network, images: ImageSet, path: Path, extraction: Extraction) -> None:
    """Write the features of all images to `path`, resuming where an earlier run stopped.

    Prints the accuracy if there is one folder for each of the model's classes. Raises InputError
    for an unreadable image; with extraction.skip_corrupt its row becomes zeros (which relate to
    nothing) instead, so that the rows keep the order of the images.
    """
    device = find_device(extraction.device)
    model = models.build(network).to(device)
    width, classes = heads.widths(model)
    if images.folders != classes:
        images = replace(images, labels=None)  # folders that are not the model's classes
    writing.check_writable(path.parent)
    with _exclusive(path.with_suffix(".rows")) as rows:
        for left in path.parent.glob(f".{path.stem}.*.part"):  # of a killed run
            left.unlink()
        if path.is_file():
            problem = misfit(path, network, images)
            if not problem:  # another process wrote it while this one waited
                Path(rows.name).unlink(missing_ok=True)
                return
            print(f"{path.name}: {problem}; starting over")
            path.unlink()  # else the new record would seem to describe the old file
        record = _resume(Record(_source(network, model, images, device), width), path, rows)
        _check_space(len(images), record, path)
        batches = _computed(model, Images(images, transform_of(network, model)),
                            record.done, device, extraction)
        with tqdm(total=len(images), initial=record.done, desc=path.name, unit=" images", delay=1,
                  miniters=extraction.print_freq * extraction.batch_size,
                  disable=not extraction.progress) as bar:
            recorded = time.monotonic()
            for batch in batches:
                if batch.problems and not extraction.skip_corrupt:
                    raise InputError(f"{next(iter(batch.problems.values()))}; replace the file, or "
                                     f"give --skip_corrupt to have a row of zeros in its place")
                _append(batch, images, record, rows)
                bar.update(len(batch.features))
                if time.monotonic() - recorded >= RECORD_SECONDS:
                    _keep(record, rows, path)
                    recorded = time.monotonic()
        _keep(record, rows, path)
        writing.save(_mapped(rows, record), path)
        Path(rows.name).unlink(missing_ok=True)
    _report(record, images, path)


def record_of(path: Path) -> Record | None:
    """What the features in `path` come from; None if this module did not write them."""
    try:
        record = Record(**reading.recorded(path.with_suffix(".json")))
    except TypeError:  # missing, or not a record
        return None
    sets = record.source.get("sets", {}) if isinstance(record.source, dict) else None
    counts = [record.dim, record.done, record.top1, record.top5, record.crc]
    sound = isinstance(sets, dict) and isinstance(record.unreadable, list) and all(
        type(count) is int and count >= 0 for count in (*counts, *sets.values()))
    return record if sound else None


def misfit(path: Path, network: models.Network, images: ImageSet | None) -> str:
    """Why the features in `path` are not those of this network and these images; empty if they are.

    Without images only the network counts. Empty, too, for a file from elsewhere, which has no
    record, or the record of an unfinished extraction.
    """
    record = record_of(path)
    if record is None and path.with_suffix(".json").is_file():
        return f"its record {path.with_suffix('.json').name} is damaged"
    if record is None or record.done < sum(record.source.get("sets", {}).values()):
        return ""
    if not _weights(network).items() <= record.source.items():
        return f"extracted with other weights than {network.source}"
    if images is not None and not images.origin().items() <= record.source.items():
        return f"extracted from other images than those in {images.root}"
    return ""


def tidy(path: Path) -> None:
    """Remove the rows beside finished features, left by a run that was killed at the very end."""
    rows = path.with_suffix(".rows")
    # Suppressed: no such file, in use by another process, or a folder without write permission.
    with contextlib.suppress(OSError), open(rows, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file, rows):
            rows.unlink()


def _computed(model: nn.Module, images: Images, start: int, device: torch.device,
              extraction: Extraction) -> Iterator[Batch]:
    """Batches from row `start` on. Running out of memory halves the images at a time, for good."""
    workers = min(extraction.workers, os.cpu_count() or 1,
                  math.ceil((len(images) - start) / extraction.batch_size))
    loader = DataLoader(Subset(images, range(start, len(images))), extraction.batch_size,
                        num_workers=workers, collate_fn=collate, pin_memory=device.type == "cuda")
    step, (width, classes) = extraction.batch_size, heads.widths(model)
    for pixels, good, problems in loader:
        if isinstance(pixels, InputError):
            raise pixels
        n = len(good) + len(problems)
        features = torch.zeros(n, width)
        guesses = torch.full((n, min(TOP, classes)), -1)
        if good:
            features[good], guesses[good], step = out_of_memory.extracting(
                partial(_forward, model, pixels, device), step, "image")
        yield Batch(features, guesses, problems)


def _forward(model: nn.Module, pixels: Tensor, device: torch.device,
             step: int) -> tuple[Tensor, Tensor, int]:
    """Features, guesses and `step`, so many images at a time. Mixed precision on a GPU."""
    features, guesses = [], []
    for block in pixels.split(step):
        with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
            feature, logits = heads.features_and_logits(model, block.to(device))
        features.append(feature.float().cpu())
        guesses.append(logits.topk(min(TOP, logits.shape[1])).indices.cpu())
    return torch.cat(features), torch.cat(guesses), step


def _append(batch: Batch, images: ImageSet, record: Record, rows: BinaryIO) -> None:
    if images.labels is not None:
        labels = torch.from_numpy(images.labels[record.done:record.done + len(batch.features)])
        found = batch.guesses == labels[:, None]
        record.top1 += int(found[:, 0].sum())
        record.top5 += int(found.sum())
    record.unreadable += batch.problems.values()
    record.unreadable_rows += [record.done + at for at in batch.problems]
    record.done += len(batch.features)
    record.crc = zlib.crc32(batch.features.numpy(), record.crc)
    try:
        rows.write(batch.features.numpy())
        rows.flush()
    except OSError as error:
        raise InputError(f"{rows.name}: cannot be written ({error.strerror})") from error


def _keep(record: Record, rows: BinaryIO, path: Path) -> None:
    """Write the rows first, then the record that counts them."""
    os.fsync(rows.fileno())
    writing.save_json(asdict(record), path.with_suffix(".json"))


def _resume(record: Record, path: Path, rows: BinaryIO) -> Record:
    """The record of an earlier run of the same source, if any; truncates `rows` to match it."""
    size = os.fstat(rows.fileno()).st_size
    earlier = record_of(path)
    if earlier is not None and size >= earlier.bytes_done > 0:
        if (earlier.source, earlier.dim) != (record.source, record.dim):
            print(f"{path.name}: begun with another model or other images; starting over")
        elif _crc(rows, earlier.bytes_done) != earlier.crc:
            print(f"{rows.name}: not as it was written; starting over")
        else:
            record = earlier
            print(f"{path.name}: resuming after {record.done:,} images")
    rows.truncate(record.bytes_done)
    return record


def _crc(rows: BinaryIO, length: int) -> int:
    """CRC-32 of the first `length` bytes."""
    rows.seek(0)
    crc = 0
    while length and (part := rows.read(min(length, READ_BYTES))):
        crc, length = zlib.crc32(part, crc), length - len(part)
    return crc


def _mapped(rows: BinaryIO, record: Record) -> Tensor:
    """The rows (N, D) on disk; by the open file, since closing another handle would unlock it."""
    content = mmap.mmap(rows.fileno(), record.bytes_done, access=mmap.ACCESS_COPY)
    return torch.frombuffer(content, dtype=torch.float32).view(record.done, record.dim)


def _report(record: Record, images: ImageSet, path: Path) -> None:
    read = record.done - len(record.unreadable)
    line = f"{path}: {record.done:,} images"
    if images.labels is not None and read:
        line += f", top-1 {record.top1 / read:.2%}, top-5 {record.top5 / read:.2%}"
    if record.unreadable:
        line += (f"; {len(record.unreadable)} could not be read, their rows are zeros (named in "
                 f"{path.with_suffix('.json').name})")
    print(line)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[BinaryIO]:
    """Open the file for appending, one process at a time. Workers would inherit flock."""
    while True:
        with open(path, "a+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{path}: waiting for another process that writes it")
                fcntl.lockf(file, fcntl.LOCK_EX)
            except OSError:
                pass  # some cluster file systems have no locks
            if _is_at(file, path):  # else the process with the lock has removed the file
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _check_space(n: int, record: Record, path: Path) -> None:
    needed = 2 * n * record.dim * FLOAT_BYTES - record.bytes_done
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(f"{path}: {needed / 1e9:.1f} GB are needed on its disk while it is "
                         f"written, {free / 1e9:.1f} GB are free")


def _source(network: models.Network, model: nn.Module, images: ImageSet,
            device: torch.device) -> dict[str, Any]:
    weights = hashlib.sha256()
    for key, value in model.state_dict().items():
        weights.update(key.encode())
        weights.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return {**_weights(network), "weights_sha256": weights.hexdigest(), **images.origin(),
            "precision": "mixed" if device.type == "cuda" else "float32"}


def _weights(network: models.Network) -> dict[str, Any]:
    return {"network": network.images, "weights": models.fingerprint(network)}
