"""Tables that may be compressed by gzip, bzip2 or xz, or alone in a zip archive.

What a file holds says how it is compressed; its name only says which table is inside.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path

from experiment.files import checks

ENDINGS = (".gz", ".bz2", ".xz", ".zip")
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
LARGEST_RATIO = 20  # how much larger than its file a large table may be; text compresses to a fifth
SPREADSHEETS = ("xl/workbook.xml", "content.xml")  # of Excel and LibreOffice


def plain_name(path: Path) -> str:
    """The name without an ending of compression."""
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def ending_of(path: Path) -> str:
    """The ending of the table, in lower case: .csv of a file FILE.CSV.gz."""
    return Path(plain_name(path)).suffix.lower()


def content_of(path: Path) -> bytes:
    """The bytes of the table. Raises OSError, or ValueError for a broken or a foreign file."""
    content = path.read_bytes()
    limit = max(checks.BYTES_ALLOWED, LARGEST_RATIO * len(content))
    unpack = next((opener for magic, opener in OPENERS.items() if content.startswith(magic)), None)
    try:
        if unpack is not None:
            with unpack(io.BytesIO(content)) as file:
                content = file.read(limit + 1)
        elif content.startswith(checks.MAGIC):
            content = _only_entry(content, limit)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
            RuntimeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if len(content) > limit:
        raise ValueError(f"unpacked it has more than {limit:,} bytes")
    if content.lstrip()[:1] == b"<":
        raise ValueError("XML as CVAT exports it; its export in the format ImageNet is a folder "
                         "for --image_dir" if b"<annotations" in content[:1000] else
                         "a web page or XML, not a table")
    return content


def _only_entry(content: bytes, limit: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()
                 and not entry.filename.startswith("__MACOSX/")]
        if any(name in names for name in SPREADSHEETS):
            raise ValueError("a spreadsheet; save its sheet as .csv")
        if len(names) != 1:
            raise ValueError(f"a zip archive of {len(names)} files, expected one table; unpack it")
        with archive.open(names[0]) as file:
            return file.read(limit + 1)
