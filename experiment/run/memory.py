"""Memory: what a run will need and what is there, said before.

The forecast adds up the arrays that are held at one time beside the data as they were read (of
ImageNet's files that is nothing: they are memory-mapped). It is meant to be right within a factor
of two. N rows, D features, C classes.
"""

import importlib.util
import math
import resource
from dataclasses import replace
from pathlib import Path

import torch

from experiment.command import processes
from experiment.command.device import find_device
from experiment.inputs.samples import Samples
from experiment.run.settings import Settings
from relation.auto import KEPT

ROW_BYTES = 350  # of each row: peaks, their lists, sums, ranks, twenty scores and their text
TILE_COLUMNS, TILE_ARRAYS = 1024, 3  # target rows of a tile, and how many arrays of its size
AUTO_ROW_BYTES = 2500  # of each row, for auto and outliers: half features, classes asked for
AUTO_BLOCK, AUTO_ARRAYS = 4096, 4  # rows at a time of leave-one-out, in float64
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
            line += "; that may not be enough: --hop, --dtype float16 and --auto False need less"
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
    width = torch.empty(0, dtype=getattr(torch, settings.dtype)).element_size()
    copied = settings.dtype != "float32" or device.type != "cpu"
    copies = (dim + classes) * copied
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    rows = 4 * (settings.chunk + TILE_COLUMNS) * (dim + classes)
    tiles = 4 * TILE_ARRAYS * settings.chunk * TILE_COLUMNS
    steps = threads * (rows + tiles)
    if auto:
        width_of_fit = min(dim, n) + 1
        steps = max(steps, 8 * (AUTO_ARRAYS * AUTO_BLOCK * (width_of_fit + classes)
                                + 4 * width_of_fit ** 2 + 2 * width_of_fit * classes))
        kept = classes * (n * classes <= KEPT)
        # Leave-one-out's probabilities as stored and as scores want them, and cleanlab's float64.
        copies += 2 * kept + AUTO_ROW_BYTES // width
        copies += 8 // width * kept * (importlib.util.find_spec("cleanlab") is not None)
    return processes.count_here() * (PASSING + (n + m) * (ROW_BYTES + width * copies) + steps)


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
