"""A run's time so far, and its peak memory.

Memory means anonymous memory: what no file stands behind. Pages of mapped files count as
resident too, though the system reclaims them when it needs memory, and would hide what a run needs.
"""

import resource
import sys
import threading
import time
from pathlib import Path

STATUS = Path("/proc/self/status")
EVERY = 0.02  # seconds between two looks, each of some twenty microseconds


def anonymous_mib() -> float:
    """Resident memory that no file stands behind. Raises RuntimeError where Linux is too old."""
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{STATUS} has no RssAnon")


class Watch:
    """Seconds since the block was entered, and the largest anonymous memory in it so far.

    Where the system does not tell what is anonymous, the largest resident memory of the process.
    """

    _latest: "Watch | None" = None

    def __enter__(self) -> "Watch":
        self.began = time.perf_counter()
        self._done = threading.Event()
        self._thread = None
        self._outer, Watch._latest = Watch._latest, self
        if STATUS.is_file():
            self.start = self._most = anonymous_mib()
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        Watch._latest = self._outer
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    @classmethod
    def latest(cls) -> "Watch | None":
        """The innermost one that is open, None if none is."""
        return cls._latest

    @property
    def mib(self) -> float:
        if self._thread is None:
            return _largest_resident_mib()
        self._most = max(self._most, anonymous_mib())
        return self._most

    def _look(self) -> None:
        while not self._done.wait(EVERY):
            self._most = max(self._most, anonymous_mib())


def peak_memory_mib() -> int:
    """Largest anonymous memory of this run so far; outside of a `Watch` what is there now."""
    watch = Watch.latest()
    if watch is not None:
        return round(watch.mib)
    return round(anonymous_mib() if STATUS.is_file() else _largest_resident_mib())


def _largest_resident_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
