"""How every script starts and ends: one line and an exit status, whatever happens.

    0      done
    1      something outside refused (a download, another process), or out of memory
    2      a mistake that the user can correct: an option, a file, a full disk, data of which one
           row at a time needs more memory than there is
    130    Ctrl-C; 143: SIGTERM. Both end the run within five seconds (`signals` says how)
    141    the reader of the output is gone, as in `detect.py | head`
"""

import argparse
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable

from experiment.command import processes, signals
from experiment.command.errors import InputError, Unavailable
from experiment.command.escaping import printable
from experiment.command.out_of_memory import is_out_of_memory
from experiment.command.watch import Watch

PIPE_CLOSED = 141  # as shells count it
# Errors of a file system that are no defect of the code.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
            errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE)


def launch(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the options and run `main`; expected errors become one line and an exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as >&- does
            setattr(sys, name, open(os.devnull, "w"))
        # A character that the terminal cannot show must not end the run.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    args = parser.parse_args()

    @functools.cache  # the line appears once, by whichever thread comes first
    def say(word: str) -> None:
        _say(parser, word, 0)

    received: list[int] = []
    try:
        with Watch(), signals.handling(received, say), processes.joined():
            if not processes.is_first():
                args.verbose = False
            main(args)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # After a signal any exception: libraries turn KeyboardInterrupt into their own.
        if received or isinstance(error, KeyboardInterrupt):
            word, status = signals.ending(received)
            say(word)
        else:
            status = _status_of(error, parser)
        if status is None:
            raise
        sys.exit(status)


def _status_of(error: Exception, parser: argparse.ArgumentParser) -> int | None:
    """The exit status for expected errors, after printing one line; None for bugs."""
    if isinstance(error, InputError):
        # Lists are indented; any other line break is in somebody's file name.
        return _say(parser, f"error: {_lines(str(error), indent='  ')}", 2)
    if isinstance(error, Unavailable):
        return _say(parser, _lines(str(error)), 1)
    if is_out_of_memory(error):
        return _say(parser, "out of memory; --hop, --dtype float16, --auto False and a smaller "
                            "--batch_size need less, where the script has them", 1)
    if isinstance(error, BrokenPipeError):
        return _silence_output(PIPE_CLOSED)
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f"{error.filename}: " if error.filename else ""
        return _silence_output(_say(parser, f"error: {_lines(where)}{error.strerror}", 2))
    return None


def _say(parser: argparse.ArgumentParser, line: str, status: int) -> int:
    print(f"{parser.prog}: {line}", file=sys.stderr)
    return status


def _lines(text: str, indent: str = "") -> str:
    return f"\n{indent}".join(map(printable, text.split(f"\n{indent}")))


def _silence_output(status: int) -> int:
    """Redirect stdout to the null device, so that Python does not fail flushing it at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
