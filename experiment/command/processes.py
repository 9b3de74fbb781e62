"""Several processes of one run, as torchrun starts them: each computes a share, the first writes.

    torchrun --nproc-per-node 2 detect.py -n digits_noise0.08_60 --pow 4

All of them read the same files. Imports torch only where there are several.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

from experiment.command.errors import InputError, Unavailable

MEETING = timedelta(minutes=5)  # for all processes to be there
# For a process that waits until another has extracted features. One that ended is noticed at once,
# by its closed connection.
WAITING = timedelta(days=1)


def count() -> int:
    """How many processes this run has."""
    return _said_by_torchrun("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this is."""
    return _said_by_torchrun("RANK", 0) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes while the block runs; all but the first print nothing.

    Raises Unavailable where another of them ended before its work was done.
    """
    if count() == 1:
        yield
        return
    mine = rank()  # refused before anybody is waited for
    import torch
    from torch import distributed

    from relation.parallel import ProcessLost

    if torch.cuda.is_available():
        torch.cuda.set_device(_said_by_torchrun("LOCAL_RANK", 0) % torch.cuda.device_count())
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=MEETING))
    except ValueError as error:  # one of its variables is not there
        raise InputError(f"{error}; use torchrun, or unset WORLD_SIZE") from error
    except RuntimeError as error:
        raise Unavailable(f"the {count()} processes of this run did not find each other within "
                          f"{MEETING}") from error
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                                   store=store, rank=mine, world_size=count(), timeout=WAITING)
    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    except ProcessLost as error:
        raise Unavailable(f"{error}; nothing is written, run the command again") from error
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the block before the others do: it may write what they then read."""
    if count() > 1 and not is_first():
        _meet()
    yield
    if count() > 1 and is_first():
        _meet()


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """While the block runs this process computes all that it asks for, and waits for no other.

    For what the first process does after the others have ended, as the report's evidence.
    """
    if count() == 1:
        yield
        return
    from relation.parallel import by_itself

    with by_itself():
        yield


def check_same(fingerprint: str) -> None:
    """Raise InputError unless all processes have read data of this hexadecimal fingerprint."""
    if count() == 1:
        return
    import torch

    from relation.parallel import agree

    if not agree(fingerprint, torch.device("cpu")):
        raise InputError(f"the {count()} processes of this run read different data; expected the "
                         f"same files for all of them")


def all_have(value: object) -> bool:
    """Whether the value is there, not None, in every process."""
    return bool(smallest(int(value is not None)))


def smallest(value: int) -> int:
    """The smallest of the processes' values."""
    if count() == 1:
        return value
    import torch

    from relation import parallel

    return parallel.smallest(value, torch.device("cpu"))


def count_here() -> int:
    """How many of them are on this machine."""
    return _said_by_torchrun("LOCAL_WORLD_SIZE", 1)


def _said_by_torchrun(name: str, least: int) -> int:
    """A number in the environment, or the least that it may be where it is not there."""
    said = os.environ.get(name, str(least))
    if not said.isdecimal() or int(said) < least:
        raise InputError(f"{name} in the environment: expected a whole number of at least {least}, "
                         f"as torchrun sets it, got {said!r}")
    return int(said)


def _meet() -> None:
    smallest(0)
