"""Google Drive: download the folder of a published experiment, whole files only, resumable.

    drive.fetch(published.PUBLISHED["sst2"], cache_dir, progress=True)

gdown talks to Drive (https://github.com/wkentaro/gdown, 6.5); this module decides which files are
in place and whole, what a refusal means, and what remains. On disk, beside each other:

    target.pt                       a file that arrived whole and was checked
    .<drive id>.pt<8 letters>.part  the part of a file that has arrived; the next run resumes it
    download.json                   address of the folder, bytes of each file that came from it
    .download.lock                  locked by a running download: two would write one partial file

Tested with the real gdown against a local server that plays Drive's pages, the quota page, cut
connections and truncated files. The real Drive could not be reached from where that was done.
"""

import contextlib
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import gdown
import requests
from tqdm import tqdm

from experiment.command.errors import InputError, Unavailable
from experiment.command.escaping import printable
from experiment.files import reading, writing
from experiment.files.drive_folder import Published

ADDRESS = "https://drive.google.com/drive/folders/"
RECORD = "download.json"
# As torch.save writes them. Not every .bin: training_args.bin holds a class, and nothing reads it.
TENSOR_FILES = ("*.pt", "*.pth", "pytorch_model*.bin")
TIMEOUT = (15, 60)  # seconds to connect, and between bytes; gdown's default is no limit
RETRIES = 4  # of one file when its connection breaks, after up to 1, 2, 4 and 8 seconds


def fetch(published: Published, cache_dir: Path, *, progress: bool) -> None:
    """Download every file of the Drive folder to `cache_dir / published.folder`, and check it.

    Files in place that pass the check are kept, however they got there; a broken one is replaced
    once its successor is whole. If Drive cannot be reached, the files that detection reads
    (`published.files`) are enough. `progress` adds a line and a bar for each file.

    Raises InputError for a folder that cannot be written or a disk too small, and Unavailable,
    with an address for the browser and the remaining files, if Drive did not give all of them.
    """
    folder = cache_dir / published.folder
    writing.check_writable(folder)
    with _alone(folder):
        sizes = _read_record(folder)
        faults = {name: _fault(folder / name, sizes.get(name)) for name in published.files}
        _check_space(folder, published, missing=any(faults.values()))
        listed, refusal = _listing(published.drive_id)
        for name in listed:
            faults.setdefault(name, _fault(folder / name, sizes.get(name)))
        for name, fault in faults.items():
            if fault and name in listed and not refusal:
                record = partial(_record, folder, published, sizes, name)
                faults[name], refusal = _bring(listed[name], folder / name, record,
                                               progress=progress)
            elif fault and not refusal:
                faults[name] = f"{fault}, and the Drive folder does not list it"
            if progress and faults[name] is None:
                print(f"{printable(str(folder / name))}: {'fetched' if fault else 'in place'}")
    remaining = {name: fault for name, fault in faults.items() if fault}
    if remaining:
        raise Unavailable(_what_remains(folder, published, remaining, refusal))
    print(f"{printable(str(folder))}: complete, {len(faults)} files")
    if refusal:
        print(f"note: these are the files that detection reads; Drive could not be asked for more "
              f"({printable(refusal)})")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with open(folder / ".download.lock", "a") as lock:
        if not writing.try_lock(lock):
            raise InputError(f"{folder}: another download is at work here; wait for its end "
                             f"or choose another --cache_dir")
        yield


def _read_record(folder: Path) -> dict[str, int]:
    """Bytes of the files that were downloaded earlier."""
    sizes = reading.recorded(folder / RECORD).get("bytes")
    return sizes if isinstance(sizes, dict) else {}  # then only the files themselves are checked


def _record(folder: Path, published: Published, sizes: dict[str, int], name: str, size: int
            ) -> None:
    sizes[name] = size
    writing.save_json({"source": ADDRESS + published.drive_id, "bytes": sizes}, folder / RECORD)


def _fault(path: Path, size: int | None) -> str | None:
    """What is wrong with the file, None if nothing is. `size`: its bytes, if known.

    A tensor file is checked by loading it, memory-mapped: its directory is at its end, so half a
    file does not load. Size counts for other files only, since features may be recomputed.
    """
    if not path.is_file():
        return "missing"
    found = path.stat().st_size
    if any(path.match(pattern) for pattern in TENSOR_FILES):
        try:
            reading.load(path)
        except InputError as error:
            return str(error).removeprefix(f"{path}: ")
    elif size is None and not found:
        return "empty"  # browsers reserve the name so
    elif size not in (None, found):
        return f"expected {size:,} bytes, got {found:,}"
    return None


def _check_space(folder: Path, published: Published, *, missing: bool) -> None:
    number, unit = published.size.split()
    # Announced as GB, counted as GiB: asking for 7 % too much is better than a full disk.
    announced = int(float(number) * {"MB": 2**20, "GB": 2**30}[unit])
    known = {*(folder / name for name in published.files), *folder.rglob("*.part")}
    here = sum(path.stat().st_size for path in known if path.is_file())
    free = shutil.disk_usage(folder).free
    sizes = (f"{published.size} announced, {_readable(here)} of it here, "
             f"{_readable(free)} free on the disk")
    if missing and announced - here > free:
        raise InputError(f"{folder}: {sizes}; make room or choose another --cache_dir")
    print(f"{printable(str(folder))}: {sizes}", flush=True)


def _listing(drive_id: str) -> tuple[dict[str, str], str | None]:
    """Path in the folder -> Drive's id of the file; and why there are none, if so."""
    try:
        files = gdown.download_folder(id=drive_id, output=".", skip_download=True, quiet=True,
                                      use_cookies=False, timeout=TIMEOUT)
    except (gdown.DownloadError, requests.RequestException) as error:
        return {}, _reason(error)
    listed: dict[str, str] = {}
    for file in files:
        path = PurePosixPath(file.path)
        # gdown replaces such names, but the paths come from outside all the same.
        if path.is_absolute() or ".." in path.parts:
            return {}, f"the Drive folder lists {file.path!r}, which leads out of the folder"
        listed.setdefault(str(path), file.id)  # Drive allows a name twice: the first is taken
    return listed, None if listed else "the page of the Drive folder lists no files"


def _bring(drive_id: str, final: Path, record: Callable[[int], None], *, progress: bool
           ) -> tuple[str | None, str | None]:
    """Download one file to its final name. `record` is called with its bytes before the rename,
    so that a kill in between does not leave a file of unknown size.

    Returns what is wrong with it (None: nothing), and why Drive need not be asked for other files:
    a quota concerns one file, a lost connection all.
    """
    staged = final.with_name(f".{drive_id}{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _download(drive_id, staged, label=printable(final.name), progress=progress)
        fault = _fault(staged, staged.stat().st_size)
        if fault:
            staged.unlink()
            return f"arrived broken and was removed: {fault}", None
        record(staged.stat().st_size)
        staged.replace(final)
        return None, None
    except (gdown.FileURLRetrievalError, requests.HTTPError) as error:
        return _reason(error), None
    except (gdown.DownloadError, requests.RequestException) as error:
        return "not all of it arrived", _reason(error)
    except OSError as error:  # below those of requests, which are OSErrors too
        raise InputError(f"{final}: cannot be written ({error.strerror})") from error


def _download(drive_id: str, staged: Path, *, label: str, progress: bool) -> None:
    """Download to `staged`, which appears once it has the announced length."""
    with tqdm(desc=label, unit="B", unit_scale=True, delay=1, disable=not progress) as bar:
        def advance(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        how = dict(id=drive_id, output=str(staged), quiet=True, resume=True, use_cookies=False,
                   timeout=TIMEOUT, retries=RETRIES, progress=advance)
        try:
            gdown.download(**how)
        except gdown.DownloadError as error:
            if "byte range" not in str(error):
                raise
            # The partial file cannot be resumed: it was whole when the run was killed, or the file
            # on Drive has changed. gdown would refuse every time; start over, once.
            for part in staged.parent.glob(f"{staged.name}*.part"):
                part.unlink()
            gdown.download(**how)


def _reason(error: Exception) -> str:
    """gdown's or requests' message in one line, without gdown's advice."""
    text = " ".join(str(error).split()).removeprefix("Failed to retrieve file url: ")
    return textwrap.shorten(re.split(r" You may |\. The received bytes", text)[0], 400)


def _what_remains(folder: Path, published: Published, remaining: dict[str, str],
                  refusal: str | None) -> str:
    address = ADDRESS + published.drive_id
    return "\n".join([
        f"{folder}: not complete{f' ({refusal})' if refusal else ''}; what remains:",
        *(f"  {printable(str(folder / name))}  ({fault})" for name, fault in remaining.items()),
        "Run the same command later to resume; or download these files in a browser from",
        f"  {address}",
        "save them under the names above, and run the command again to check them."])


def _readable(size: int) -> str:
    return tqdm.format_sizeof(size, "B", 1024)
