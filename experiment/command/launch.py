"""How every script starts and ends: one line and an exit status, whatever happens.

Imports nothing heavy, so that --help answers at once.
"""

import argparse
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable

from experiment.command import processes, signals
from experiment.command.errors import InputError, Unavailable, is_out_of_memory
from experiment.command.escaping import printable

PIPE_CLOSED = 141  # exit status where nobody reads the output any more, as shells count it
# What a file system refuses through nobody's mistake in the code.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
            errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE)


def launch(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse, run, and turn a user's mistake into one line and exit status 2.

    Exit status 1, with what remains to be done, where something outside refused.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as >&- does
            setattr(sys, name, open(os.devnull, "w"))
        # A name that the terminal cannot show ends no run.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    args = parser.parse_args()

    @functools.cache  # once, by whoever comes first
    def say(word: str) -> None:
        _say(parser, word, 0)

    received: list[int] = []
    try:
        with signals.by_signal(received, say), processes.joined():
            if not processes.is_first():
                args.verbose = False
            main(args)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # After a signal, whatever its exception has been turned into on its way.
        if received or isinstance(error, KeyboardInterrupt):
            word, status = signals.ending(received)
            say(word)
        else:
            status = _status_of(error, parser)
        if status is None:
            raise
        sys.exit(status)


def _status_of(error: Exception, parser: argparse.ArgumentParser) -> int | None:
    """The exit status after one line on what is nobody's defect; None for what is."""
    if isinstance(error, InputError):
        # Lists are indented; any other line break is in somebody's file name.
        return _say(parser, f"error: {_lines(str(error), indent='  ')}", 2)
    if isinstance(error, Unavailable):
        return _say(parser, _lines(str(error)), 1)
    if is_out_of_memory(error):
        return _say(parser, "out of memory; --hop, --dtype float16 and --auto False need less, "
                            "where the script has them", 1)
    if isinstance(error, BrokenPipeError):
        return _hush(PIPE_CLOSED)
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = f"{error.filename}: " if error.filename else ""
        return _hush(_say(parser, f"error: {_lines(where)}{error.strerror}", 2))
    return None


def _say(parser: argparse.ArgumentParser, line: str, status: int) -> int:
    print(f"{parser.prog}: {line}", file=sys.stderr)
    return status


def _lines(text: str, indent: str = "") -> str:
    return f"\n{indent}".join(map(printable, text.split(f"\n{indent}")))


def _hush(status: int) -> int:
    """Let go of an output that takes no more, lest Python try again at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
