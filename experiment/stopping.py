"""Ctrl-C and SIGTERM: a run ends within five seconds, with one line.

Both raise in the main thread, so that files in the making are removed and workers hear of it. Where
that does not help in time (a kernel that takes long, a worker that does not answer) a thread that
watches ends the process; what it leaves is what a kill would leave, and the next run clears that.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 4.0  # seconds
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM; libraries know what to do at Ctrl-C, so it is one."""


def status_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """The word for the user, and the exit status as shells count it: 130 or 143."""
    number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    return WORDS[number], 128 + number


@contextmanager
def by_signal(say: Callable[[str], object]) -> Iterator[None]:
    """Let both signals raise in the block; `say` prints a word where only the watcher can.

    A signal that is ignored (as behind nohup) stays ignored. Does nothing outside of the main
    thread, where Python handles no signals.
    """
    numbers = [number for number in WORDS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = {number: signal.signal(number, _stop) for number in numbers}
    wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ear, say), daemon=True).start()
    try:
        yield
    finally:
        # After a signal the watcher stays, since joining threads may take long, too.
        if signal.getsignal(numbers[0]) is _stop:
            signal.set_wakeup_fd(wakeup)
            os.close(mouth)
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    for each in WORDS:  # one is enough; more would end in tracebacks of what is cleaned up
        signal.signal(each, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(ear: int, say: Callable[[str], object]) -> None:
    """Python writes the number of a signal into the pipe at once, whatever the main thread does."""
    while number := os.read(ear, 1):
        if number[0] in WORDS:
            time.sleep(PATIENCE)
            say(WORDS[signal.Signals(number[0])])
            sys.stderr.flush()
            os._exit(128 + number[0])
    os.close(ear)


def _forget() -> None:
    """In a forked process signals are its own affair, and the pipe is its parent's."""
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)
