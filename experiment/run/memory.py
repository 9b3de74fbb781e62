"""Memory: what a run will need and what is there, said before.

The forecast adds up what is held of every row to the end, the copies of the data in another
precision or on a GPU, and what the largest of the stages holds beside them; all on top of the data
as they were read (of ImageNet's files that is nothing: they are memory-mapped). It is meant to be
right within a factor of two. N rows, D features, C classes.
"""

import importlib.util
import math
import resource
from dataclasses import replace
from pathlib import Path

import torch

from experiment.command import processes
from experiment.command.device import find_device
from experiment.files import scratch
from experiment.inputs.samples import Samples
from experiment.run.settings import Settings
from relation.auto import KEPT
from relation.references import OF_ALL_CLASSES

ROW_BYTES = 350  # of each row: peaks, their lists, sums, ranks, twenty scores and their text
TARGET_ROW_BYTES = 200  # of each row to relate to: peaks and their order
TILE_COLUMNS, TILE_ARRAYS = 1024, 3  # target rows of a tile, and how many arrays of its size
AUTO_ROW_BYTES = 900  # of each row, for auto and outliers: half features, classes asked for
AUTO_BLOCK, AUTO_ARRAYS = 4096, 4  # rows at a time of leave-one-out, in float64
OOD_ROWS, OOD_ARRAYS = 8192, 3  # test rows that `auto` judges at a time
OOD_SQUARES = 4  # of float64, as wide as the features
PASSING = 2**27  # transient library allocations, most of them while a picture is drawn
SMALLEST_CHUNK = 16  # rows: less is slow and saves nothing
CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def fit(samples: Samples, settings: Settings, *, auto: bool, progress: bool,
        target: Samples | None = None) -> Settings:
    """The settings with a chunk that fits, after a line on what is needed and what is there.

    `auto`: whether the out-of-sample scores are computed; `target`: the rows to relate to, if not
    the samples themselves.
    """
    device, chunk = find_device(settings.device), settings.chunk
    there = available(device)

    def needed(chunk: int) -> int:
        return forecast(samples, replace(settings, chunk=chunk), auto=auto, target=target)

    while there is not None and needed(chunk) > there and chunk > SMALLEST_CHUNK:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
    chunk = processes.smallest(chunk)  # they divide the same blocks
    line = f"memory: about {_gib(needed(chunk))} needed beside the data"
    if there is not None:
        line += f", {_gib(there)} there"
        if needed(chunk) > there:
            line += "; that may not be enough: --hop and --auto False need less" + (
                "" if device.type == "cpu" else ", and --dtype float16")
    if chunk < settings.chunk:
        line += f"; {chunk} rows at a time instead of {settings.chunk}"
    if progress:
        print(line, flush=True)
    return replace(settings, chunk=chunk)


def forecast(samples: Samples, settings: Settings, *, auto: bool,
             target: Samples | None = None) -> int:
    """Bytes beside the data, where it is computed, of all processes on this machine."""
    n, dim = samples.features.shape
    classes = samples.probs.shape[1]
    n = math.ceil(n / settings.hop) if target is None else n
    m = 0 if target is None else math.ceil(len(target) / settings.hop)
    device = find_device(settings.device)
    width = getattr(torch, settings.dtype).itemsize
    copies = 0
    if settings.dtype != "float32" or device.type != "cpu":
        copies = sum(_in_memory(rows, width * columns, device)
                     for rows in (n, m) for columns in (dim, classes))
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    tiles = 4 * TILE_ARRAYS * settings.chunk * TILE_COLUMNS
    stages = [threads * (4 * (settings.chunk + TILE_COLUMNS) * (dim + classes) + tiles)]
    if auto:
        stages.append(_auto_bytes(n, dim, classes))
    if target is not None:  # `auto`, which holds more than any baseline
        stages.append(4 * (min(m, OF_ALL_CLASSES) * (2 * dim + classes)
                           + OOD_ARRAYS * min(n, OOD_ROWS) * (dim + classes))
                      + 8 * OOD_SQUARES * dim * (dim + classes))
    return processes.count_here() * (PASSING + n * ROW_BYTES + m * TARGET_ROW_BYTES + copies
                                     + max(stages))


def _in_memory(rows: int, row_bytes: int, device: torch.device) -> int:
    """Bytes of a copy for the relation: on the CPU a large one lies in a file."""
    size = rows * row_bytes
    return size if device.type != "cpu" or size <= scratch.IN_MEMORY else 0


def _auto_bytes(n: int, dim: int, classes: int) -> int:
    """What `auto` and outliers hold of n labelled rows: half features and classes asked for, blocks
    and squares of leave-one-out; its probabilities as stored and as scores want them, and
    cleanlab's float64, where there is room for them."""
    fitted = min(dim, n) + 1
    kept = n * classes * (n * classes <= KEPT)
    held = 4 * 2 * kept + 8 * kept * (importlib.util.find_spec("cleanlab") is not None)
    return n * AUTO_ROW_BYTES + held + 8 * (AUTO_ARRAYS * AUTO_BLOCK * (fitted + classes)
                                            + 4 * fitted ** 2 + 2 * fitted * classes)


def available(device: torch.device) -> int | None:
    """Bytes that can still be had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [_machine(), _container(), _process()]
    return min((bytes_ for bytes_ in found if bytes_ is not None), default=None)


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines
                 if line.startswith("MemAvailable:")), None)


def _container() -> int | None:
    """What the limits of a container leave: its own, and those of all that it is in."""
    try:
        own = next(line.removeprefix("0::").strip("/") for line in
                   OWN_CGROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):  # not Linux, or the first version of control groups
        return None
    inner = CGROUP / own
    above = [inner, *inner.parents]
    left = [_left_in(group) for group in above[:above.index(CGROUP) + 1]]
    return min((bytes_ for bytes_ in left if bytes_ is not None), default=None)


def _left_in(group: Path) -> int | None:
    """What the limit of one control group leaves; files that were read in it can go."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        files = next(int(line.split()[1]) for line in
                     (group / "memory.stat").read_text().splitlines()
                     if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):  # none, or "max"
        return None
    return max(0, limit - used + files)


def _process() -> int | None:
    """What `ulimit -v` leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return limit
    return max(0, limit - pages * resource.getpagesize())


def _gib(bytes_: int) -> str:
    return f"{bytes_ / 2**30:.1f} GiB"
