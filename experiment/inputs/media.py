"""Thumbnails, excerpts and short clips for the report.

A domain provides `Samples.media`, a function of the row number, which the report calls for the rows
that it shows. Each function here raises InputError if there is nothing to show; the report then
prints the message in place of that sample.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from PIL import Image

from experiment.command.errors import InputError
from experiment.files import pictures

SIDE = 192  # pixels of a picture's longer side: 5 to 10 kB as JPEG
PIXEL_ART = 64  # pictures of at most so many pixels a side are stored without loss
CHARACTERS = 2000  # of a text
RATE = 16_000  # Hz, the rate of the sound models
SECONDS = 10  # of a sound: 40 kB as MP3
SILENCE = 2 ** -15  # less than the smallest step of 16 bits


class Media(NamedTuple):
    """One sample for human eyes or ears."""

    kind: str  # "image", "text" or "sound"
    content: bytes | str  # image: PNG or JPEG; sound: WAV or MP3; text: str


def image(picture: Image.Image) -> Media:
    """A thumbnail; of other modes than L and RGB as `pictures.seen` shows them."""
    if picture.mode not in ("L", "RGB"):
        picture = pictures.seen(picture)
    file = io.BytesIO()
    if max(picture.size) <= PIXEL_ART:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.thumbnail((SIDE, SIDE))
        picture.save(file, "JPEG", quality=80, optimize=True)
    return Media("image", file.getvalue())


def image_file(path: Path, *, published: bool = False) -> Media:
    """A thumbnail of a file, opened as for the network: the user's own, or a `published` one."""
    try:
        return image(pictures.opened_as_published(path, about=2 * SIDE) if published else
                     pictures.opened(path, about=2 * SIDE))
    except InputError as error:
        raise InputError(f"{path.name}: not a readable picture ({error})") from error


def text(content: str) -> Media:
    """The beginning of a text."""
    if not content.strip():
        raise InputError("an empty text")
    return Media("text", content if len(content) <= CHARACTERS else content[:CHARACTERS] + " …")


def sound(waveform: np.ndarray, rate: int) -> Media:
    """The beginning of a mono waveform (S,) in -1 … 1 at `rate` Hz, as an MP3 file."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or waveform.size == 0 or not np.isfinite(waveform).all():
        raise InputError("no sound")
    if np.abs(waveform).max() < SILENCE:
        raise InputError(f"{len(waveform) / rate:.3g} s of silence")
    waveform = waveform[:SECONDS * rate]
    if rate != RATE:
        waveform = soxr.resample(waveform, rate, RATE)
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1, 1), RATE, format="MP3")
    return Media("sound", file.getvalue())
