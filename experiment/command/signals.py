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
from types import TracebackType

PATIENCE = 4.0  # seconds
IN_CHARGE: list[bool] = []  # True while the main thread is in `by_signal`
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def ending(received: list[int]) -> tuple[str, int]:
    """The word for the user, and the exit status as shells count it: 130 or 143."""
    number = received[0] if received else signal.SIGINT
    return WORDS[number], 128 + number


@contextmanager
def by_signal(received: list[int], say: Callable[[str], object]) -> Iterator[None]:
    """Let both signals raise KeyboardInterrupt in the block, and end the process if that does not.

    `received` gets the number of the signal. `say` is called with the word for the user by the
    watcher; it may have been said already. A signal that is ignored (as behind nohup) stays
    ignored. Does nothing outside of the main thread, where Python handles no signals.
    """
    def stop(number: int, frame: object) -> None:
        received.append(number)
        for each in WORDS:  # one is enough; more would end in tracebacks of what is cleaned up
            signal.signal(each, signal.SIG_IGN)
        # Nor do objects that a library was just building complain that they are half built.
        sys.unraisablehook = lambda unraisable: None
        raise KeyboardInterrupt

    numbers = [number for number in WORDS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = {number: signal.signal(number, stop) for number in numbers}
    wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ear, say), daemon=True).start()
    IN_CHARGE.append(True)
    try:
        yield
    finally:
        if not received:  # else the watcher stays, since joining threads may take long, too
            IN_CHARGE.pop()
            signal.set_wakeup_fd(wakeup)
            os.close(mouth)
            for number, handler in before.items():
                signal.signal(number, handler)


def _watch(ear: int, say: Callable[[str], object]) -> None:
    """Python writes the number of a signal into the pipe at once, whatever the main thread does."""
    while number := os.read(ear, 1):
        if number[0] in WORDS:
            time.sleep(PATIENCE)
            say(WORDS[signal.Signals(number[0])])
            sys.stderr.flush()
            os._exit(128 + number[0])
    os.close(ear)


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WORDS)


def _forget() -> None:
    """A forked process, a worker, has not got the pipe; it ends at SIGTERM without a word.

    At Ctrl-C, which reaches it too, it waits for its parent to end it: one line is enough.
    """
    if IN_CHARGE:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.excepthook = _unless_left
    _release()


def _unless_left(kind: type[BaseException], error: BaseException,
                 trace: TracebackType | None) -> None:
    """The thread by which a worker hands over tensors sees its connections close when the parent
    ends, and would print a traceback for each."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


# Held back while a process forks: its child must not run the handler before it has forgotten it.
os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
