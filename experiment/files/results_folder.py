"""Which folder of results is whose, so that data sets of one name overwrite nothing of each other.
"""

import contextlib
import json
import os
import secrets
from pathlib import Path

from experiment.command.escaping import printable
from experiment.files import reading, writing

ORIGIN = ".data.json"  # in a folder of results: the path of the data


def results_folder(cache_dir: Path, source: Path) -> Path:
    """The folder of results for the user's data, a file or a folder; made if need be.

    It is called as the data, without an ending: train for a/train and for train.npz. If that one
    holds anything else, digits that stand for the path are added, and this is printed.
    """
    source = source.resolve()
    plain = cache_dir / _name_of(source)
    owner = _claimed(plain, str(source))
    if owner == str(source):
        return plain
    folder = cache_dir / writing.distinct(plain.name, source)
    print(printable(f"{plain}: holds results of {owner}; those of {source} go to {folder}"))
    _claimed(folder, str(source))
    return folder


def owner_of(folder: Path) -> str | None:
    """The path of the user's data whose results a folder holds; None if it does not say."""
    path = reading.recorded(folder / ORIGIN).get("data")
    return path if isinstance(path, str) else None


def _name_of(source: Path) -> str:
    """Never a name that leaves the folder of the experiments, as that of "...npz" would."""
    return (source.name if source.is_dir() else source.stem).lstrip(".") or "data"


def _claimed(folder: Path, data: str) -> str:
    """Whose the folder is: of `data` if it had no owner, which is then noted in it."""
    writing.sweep(folder)
    # Listed before the owner is read: another process notes that before it writes anything else.
    used = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    owner = owner_of(folder)
    if owner is None and used:
        owner = _reported(folder) or "something else"
        if owner != data:
            return owner
    if owner is not None and (folder / ORIGIN).is_file():
        return owner
    part = folder / f"{ORIGIN}.{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"data": data}) + "\n", encoding="utf-8")
        os.link(part, folder / ORIGIN)  # fails where another process was faster
    except FileExistsError:
        return owner_of(folder) or data
    except OSError:  # no links on this disk, or nothing can be written, nor overwritten
        with contextlib.suppress(OSError):
            part.rename(folder / ORIGIN)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return data


def _reported(folder: Path) -> str | None:
    """The path of the data by the report in the folder, which is older than `ORIGIN`."""
    data = reading.recorded(folder / "report/metrics.json").get("data")
    source = data.get("source") if isinstance(data, dict) else None
    return str(Path(source).resolve()) if isinstance(source, str) else None
