"""Opening picture files, whatever program wrote them.

The networks and the report open a file by the same function, so that the page shows what the
network saw.
"""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from experiment.command.errors import InputError, reason_of

with contextlib.suppress(ImportError):  # the photos of phones, where the user has the package
    from pillow_heif import register_heif_opener

    register_heif_opener()

Image.init()
# Pillow opens these as well, but for EPS it runs a program on the file, and of the others it reads
# no pixels.
NO_PICTURES = {"EPS", "MPEG", "HDF5", "GRIB", "BUFR", "WMF", "IPTC"}
FORMATS = tuple(name for name in Image.ID if name not in NO_PICTURES)
# By these a file of any other ending, or none, is known for certain. TIFF is not among them where
# there is an ending: it is also the container of raw camera files, with a stamp-sized preview.
KNOWN_BY_CONTENT = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "QOI", "WEBP"}
KNOWN_BY_ENDING = KNOWN_BY_CONTENT | {"BLP", "DDS", "DIB", "ICO", "PCX", "PPM", "PSD", "TGA",
                                      "TIFF"}
ENDINGS = {ending for ending, name in Image.registered_extensions().items()
           if name in KNOWN_BY_ENDING & {*FORMATS}}
LEFTOVERS = {".bak", ".crdownload", ".old", ".orig", ".part", ".thm", ".tmp"}  # or ending in ~
HIGHEST = (2 ** 8 - 1, 2 ** 12 - 1, 2 ** 16 - 1)  # values that cameras and microscopes reach
AS_SEEN = "upright, on white, scaled to 8 bits"  # kept with features; change it with `seen`
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262  # a tag of TIFF


def is_picture(path: Path) -> bool:
    """Whether a file is one by its ending, or by its content if the ending says nothing.

    A broken picture is one, too: it is for `opened` to say so.
    """
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return True
    if ending in LEFTOVERS or ending.endswith("~"):
        return False
    formats = sorted((KNOWN_BY_CONTENT | (set() if ending else {"TIFF"})) & {*FORMATS})
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats):
            return True
    except MemoryError:
        raise
    except Exception:  # whatever a decoder raises, it knows no such picture
        return False


def opened(path: Path, *, about: int | None = None) -> Image.Image:
    """A user's picture, mode L or RGB, as people see it.

    Turned as its EXIF data say, transparent pixels on white, of an animation the first frame, and
    values of other widths scaled to 8 bits as by `eight_bits`. `about`: the pixels that the longer
    side needs at least; a JPEG is then decoded to little more. Raises InputError with the reason
    alone for a file that cannot be read, whatever its decoder raised.
    """
    return _decoded(path, about, seen)


def opened_as_published(path: Path, *, about: int | None = None) -> Image.Image:
    """A picture of ImageNet or of the OOD sets, mode RGB, as the published features were computed.

    That is Pillow's `convert("RGB")` alone, as in torchvision's `ImageFolder`: EXIF data do not
    turn it, and transparency is dropped. Otherwise as `opened`.
    """
    return _decoded(path, about, lambda picture: picture.convert("RGB"))


def _decoded(path: Path, about: int | None, convert: Callable[[Image.Image], Image.Image]
             ) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if about is not None:
                picture.draft("RGB", (about, about))
            picture.load()
            return convert(picture)
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:
        # In one line, without the name of the file, which Pillow names too.
        reason = reason_of(error).replace(f" {str(path)!r}", "")
        raise InputError(reason if path.is_file() else "no such file") from error


def seen(picture: Image.Image) -> Image.Image:
    """A decoded picture in mode L or RGB, as `opened` says."""
    tags = getattr(picture, "tag_v2", {})  # not of the turned copy
    with contextlib.suppress(Exception):  # broken EXIF data turn nothing
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        scaled = eight_bits(np.asarray(picture))
        return Image.fromarray(255 - scaled if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else scaled)
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Numbers (H, W) of any type -> (H, W) uint8.

    Zero stays black; white is 1 for floats up to 1, otherwise the least of 255, 4,095 and 65,535
    that no value exceeds. Floats from -1 to 1 are mapped linearly, and anything else from its own
    smallest to its largest value. NaN is black.
    """
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= HIGHEST[-1]:
        whole = pixels.dtype.kind in "iu"
        black, white = 0.0, 1.0 if not whole and high <= 1 else next(
            top for top in HIGHEST if high <= top)
    elif low >= -1 and high <= 1:
        black, white = -1.0, 1.0
    else:
        black, white = low, max(high, np.nextafter(low, np.inf))
    wide = pixels.astype(np.float32 if pixels.itemsize < 4 else np.float64)
    wide = np.nan_to_num(wide, nan=black).clip(black, white)
    return np.rint((wide - black) * (255 / (white - black))).astype(np.uint8)
