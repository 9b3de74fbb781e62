"""Ctrl-C and SIGTERM: a run ends within five seconds, with one line.

Both raise KeyboardInterrupt in the main thread, so that temporary files are removed and worker
processes end. Where that takes too long (a long kernel, a worker that does not answer) a watching
thread ends the process; leftovers are the same as after SIGKILL, and the next run cleans up.
"""

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

PATIENCE = 4.0  # seconds
IN_CHARGE: list[bool] = []  # True while the main thread is in `handling`
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def ending(received: list[int]) -> tuple[str, int]:
    """The word for the user, and the exit status as shells count it: 130 or 143."""
    number = received[0] if received else signal.SIGINT
    return WORDS[number], 128 + number


@contextmanager
def handling(received: list[int], say: Callable[[str], object]) -> Iterator[None]:
    """Let both signals raise KeyboardInterrupt in the block; end the process if that does not help.

    `received` gets the number of the signal. The watching thread calls `say` with the word for the
    user, perhaps a second time. A signal that was ignored before (by nohup) stays ignored. Does
    nothing outside of the main thread, where Python handles no signals.
    """
    def stop(number: int, frame: object) -> None:
        received.append(number)
        for each in WORDS:  # further signals would end in tracebacks from the cleaning up
            signal.signal(each, signal.SIG_IGN)
        # Nor should objects complain that a library was only half through building.
        sys.unraisablehook = lambda unraisable: None
        raise KeyboardInterrupt

    numbers = [number for number in WORDS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return
    _prepare_forks()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = {number: signal.signal(number, stop) for number in numbers}
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read_end, say), daemon=True).start()
    IN_CHARGE.append(True)
    try:
        yield
    finally:
        if not received:  # else the watcher stays, since joining threads may take long, too
            IN_CHARGE.pop()
            signal.set_wakeup_fd(wakeup)
            os.close(write_end)
            for number, handler in before.items():
                signal.signal(number, handler)


def _watch(read_end: int, say: Callable[[str], object]) -> None:
    """Python writes a signal's number into the pipe at once, whatever the main thread is doing."""
    while number := os.read(read_end, 1):
        if number[0] in WORDS:
            time.sleep(PATIENCE)
            say(WORDS[signal.Signals(number[0])])
            sys.stderr.flush()
            os._exit(128 + number[0])
    os.close(read_end)


@functools.cache  # cannot be undone
def _prepare_forks() -> None:
    """Block both signals during a fork: the child must not run the handler before it is reset."""
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_reset_in_child)


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WORDS)


def _reset_in_child() -> None:
    """In a forked worker SIGTERM ends the process silently, and Ctrl-C, which reaches it too, is
    left to the parent: one line is enough."""
    if IN_CHARGE:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.excepthook = _without_lost_connections
    _unblock()


def _without_lost_connections(kind: type[BaseException], error: BaseException,
                              trace: TracebackType | None) -> None:
    """The thread by which a worker hands over tensors would print a traceback for each connection
    that closes when the parent ends."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)
