"""Clips and labels: the layout of ESC-50, and one waveform.

A data folder holds `meta/esc50.csv` and its files under `audio/`. The table needs the columns
`filename` and `target` (whole numbers from 0); rows with `fold` 1 are held out, none without that
column; `category` names the classes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from experiment.command.errors import InputError

HELD_OUT = 1  # the fold that the published experiment does not train on
CLASSES = 10_000  # at most, as every number below the largest target is a class
LARGEST = 2**28  # samples of a file in all channels: 1 GiB, an hour and a half of 48 kHz
UNKNOWN_LENGTH = 0x7ffff000  # or more: written by programs that do not know the length yet
WINDOW = 0.025  # seconds; the filter bank has no frame for a shorter clip


@dataclass(frozen=True)
class Clips:
    """N sound files and their labels, in the order of the table."""

    folder: Path
    files: tuple[Path, ...]
    labels: Tensor  # (N,) int64
    class_names: tuple[str, ...]  # (C,) of the whole table

    def __len__(self) -> int:
        return len(self.files)


def read_clips(folder: Path, *, held_out: bool = False) -> Clips:
    """The training clips of a data folder, or its held-out ones.

    Raises InputError for a missing table, column or file, and for a target that is no class number.
    """
    table = folder / "meta" / "esc50.csv"
    names: dict[int, str] = {}
    files, labels = [], []
    for line, row in _read_table(table):
        label = _whole_number(row["target"], f"{table}, line {line}: target")
        names[label] = row.get("category") or str(label)
        fold = HELD_OUT + 1
        if "fold" in row:
            fold = _whole_number(row["fold"], f"{table}, line {line}: fold")
        if not row["filename"]:
            raise InputError(f"{table}, line {line}: filename: expected a name, got none")
        if (fold == HELD_OUT) == held_out:
            files.append(folder / "audio" / row["filename"])
            labels.append(label)
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]}: no such file, though {table} names it "
                         f"({len(absent)} of {len(files)} are missing)")
    if not files and not held_out:
        raise InputError(f"{table}: expected rows of a fold other than {HELD_OUT}, got none")
    return Clips(folder, tuple(files), torch.tensor(labels, dtype=torch.int64),
                 tuple(names.get(label, str(label)) for label in range(max(names, default=-1) + 1)))


def read_wave(path: Path, rate: int) -> np.ndarray:
    """A sound file as mono float32 samples (S,) at `rate` Hz; channels are averaged.

    Formats are those of libsndfile: WAV of any width, FLAC, Ogg, MP3. Raises InputError for
    anything else and for a clip without sound.
    """
    try:
        with soundfile.SoundFile(path) as file:
            own_rate, announced = file.samplerate, file.frames
            if announced * file.channels > LARGEST:
                raise InputError(f"{path}: expected at most {LARGEST:,} samples; cut, or longer "
                                 f"than a clip ({announced:,} announced)")
            sound = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        size = path.stat().st_size if path.is_file() else None
        reason = {None: "no such file", 0: "an empty file"}.get(size, "not a sound file that "
                                                                "libsndfile can read")
        raise InputError(f"{path}: {reason}; expected WAV, FLAC, Ogg or MP3") from error
    if len(sound) < announced or _is_cut_wave(path):
        raise InputError(f"{path}: cut: it ends before the sound that its header announces")
    if len(sound) < WINDOW * own_rate:
        raise InputError(f"{path}: expected at least {1000 * WINDOW:g} ms of sound, got "
                         f"{1000 * len(sound) / own_rate:.3g} ms")
    if not np.isfinite(sound).all():
        raise InputError(f"{path}: expected finite samples, got NaN or infinity")
    wave = sound.mean(1)
    return wave if own_rate == rate else soxr.resample(wave, own_rate, rate)


def _is_cut_wave(path: Path) -> bool:
    """Whether a WAV file is shorter than its header says, which libsndfile does not check."""
    with open(path, "rb") as file:
        head = file.read(12)
    announced = int.from_bytes(head[4:8], "little")
    # The padding byte of an odd length may be missing.
    return head[:4] == b"RIFF" and announced < UNKNOWN_LENGTH \
        and announced + 7 > path.stat().st_size


def mixing_notes(files: Sequence[Path]) -> tuple[str, ...]:
    """A note if sound files have more than one channel."""
    mixed = [path for path in files if soundfile.info(path).channels > 1]
    return (f"{len(mixed)} of {len(files)} clips have more than one channel, mixed down to one; "
            f"the first is {mixed[0]}",) if mixed else ()


def _read_table(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of each row."""
    if not table.is_file():
        raise InputError(f"{table}: no such file; expected a folder laid out as ESC-50 "
                         f"(github.com/karolpiczak/ESC-50): meta/esc50.csv and audio/*.wav")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a readable table of comma-separated values in UTF-8 "
                         f"({error})") from error
    missing = [name for name in ("filename", "target") if name not in columns]
    if missing:
        raise InputError(f"{table}: missing column {' and '.join(missing)}; "
                         f"found {', '.join(columns) or 'none'}")
    return rows


def _whole_number(text: str | None, what: str) -> int:
    if text is None or not text.strip().isdecimal() or int(text) >= CLASSES:
        raise InputError(f"{what}: expected a whole number from 0 to {CLASSES - 1}, got {text!r}")
    return int(text)
