"""Clips and labels: the layout of ESC-50, and one waveform.

A data folder holds `meta/esc50.csv` and its files under `audio/`. The table needs the columns
`filename` and `target` (whole numbers from 0); rows with `fold` 1 are held out, none without that
column; `category` names the classes.
"""

import csv
import io
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
LENGTH_HEADERS = (b"Xing", b"Info", b"VBRI")  # in the first frame of an MP3
CANCELLED = 1e-3  # of the channels' power, -30 dB: less is left where they are in opposite phase
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
    """A sound file as mono float32 samples (S,) at `rate` Hz; channels are averaged, but where
    they cancel out the loudest is taken.

    A file that does not tell its length (a streamed WAV, an MP3 without a length header) is as long
    as what decodes. Formats are those of libsndfile: WAV of any width, FLAC, Ogg, MP3. Raises
    InputError for anything else and for a clip without sound.
    """
    try:
        with soundfile.SoundFile(_with_length(path)) as file:
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
    if (len(sound) < announced and _tells_length(path)) or _is_cut_wave(path):
        raise InputError(f"{path}: cut: it ends before the sound that its header announces")
    if len(sound) < WINDOW * own_rate:
        raise InputError(f"{path}: expected at least {1000 * WINDOW:g} ms of sound, got "
                         f"{1000 * len(sound) / own_rate:.3g} ms")
    if not np.isfinite(sound).all():
        raise InputError(f"{path}: expected finite samples, got NaN or infinity")
    wave = _mixed(sound)
    return wave if own_rate == rate else soxr.resample(wave, own_rate, rate)


def _mixed(sound: np.ndarray) -> np.ndarray:
    """(S, channels) -> (S,), the mean, or the loudest channel where the mean has nothing left."""
    mean = sound.mean(1)
    power = np.square(sound, dtype=np.float64).mean(0)
    cancelled = np.square(mean, dtype=np.float64).mean() < CANCELLED * power.mean()
    return np.ascontiguousarray(sound[:, power.argmax()]) if cancelled else mean


def _with_length(path: Path) -> Path | io.BytesIO:
    """The file, or its bytes with the true size of the sound, where a WAV was streamed with 0.

    libsndfile takes 0 at its word; of larger sizes it reads what is there.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
        at = head.find(b"data", 12) + 4
        if head[:4] != b"RIFF" or at < 12 or head[at:at + 4] != bytes(4):
            return path
        size = path.stat().st_size - at - 4
        more = head[at + 4:at + 12]  # an empty clip may be followed by chunks of another kind
        if size < len(more) or size > 4 * LARGEST or (
                more[:4].isalnum() and int.from_bytes(more[4:], "little") + 8 <= size):
            return path
        file.seek(0)
        content = bytearray(file.read())
    content[at:at + 4] = size.to_bytes(4, "little")
    return io.BytesIO(content)


def _tells_length(path: Path) -> bool:
    """Whether the number of samples is written in a file; without that, libsndfile guesses it from
    the size of an MP3, tags and all."""
    with open(path, "rb") as file:
        head = file.read(10)
        tagged = head[:3] == b"ID3"  # its size is written in four times seven bits
        size = sum(byte << 7 * (3 - at) for at, byte in enumerate(head[6:10]))
        if not tagged and not (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
            return True  # not an MP3
        file.seek(10 + size if tagged else 0)
        frame = file.read(256)
    return any(header in frame for header in LENGTH_HEADERS)


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
    return (f"{len(mixed)} of {len(files)} clips have more than one channel, mixed down to one "
            f"(the loudest where they cancel out); the first is {mixed[0]}",) if mixed else ()


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
