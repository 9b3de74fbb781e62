"""Several processes of one run, as torchrun starts them: each computes a share, the first writes.

    torchrun --nproc-per-node 2 detect.py -n digits_noise0.08_60 --pow 4

All of them read the same files. They share the relation scores (before and after refinement) and
the searches for nearest rows: each computes its part of the blocks, and all get the sums. Every
process computes baselines, leave-one-out and metrics; the first alone extracts features and writes
results; each saves its own partial sums. This module starts and ends the group;
`relation.parallel` divides the work.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

from experiment.command.errors import InputError, Unavailable

START_TIMEOUT = timedelta(minutes=5)  # for all processes to have started
# For processes that wait while the first extracts features. One that ended is noticed at once, by
# its closed connection.
WORK_TIMEOUT = timedelta(days=1)


def count() -> int:
    """How many processes this run has."""
    return _from_environment("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this is."""
    return _from_environment("RANK", 0) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank() == 0


def count_here() -> int:
    """How many of them are on this machine."""
    return _from_environment("LOCAL_WORLD_SIZE", 1)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes while the block runs; all but the first print nothing.

    Raises Unavailable where another of them ended before its work was done.
    """
    if count() == 1:
        yield
        return
    mine = rank()  # raises before any process waits
    import torch  # takes seconds, and --help of a script imports this module
    from torch import distributed

    from relation.parallel import ProcessLost

    if torch.cuda.is_available():
        torch.cuda.set_device(_from_environment("LOCAL_RANK", 0) % torch.cuda.device_count())
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=START_TIMEOUT))
    except ValueError as error:  # one of its variables is not there
        raise InputError(f"{error}; use torchrun, or unset WORLD_SIZE") from error
    except RuntimeError as error:
        raise Unavailable(f"the {count()} processes of this run did not find each other within "
                          f"{START_TIMEOUT}") from error
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                                   store=store, rank=mine, world_size=count(),
                                   timeout=WORK_TIMEOUT)
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
def first_before_others() -> Iterator[None]:
    """The first process runs the block before the others do: it may write what they then read."""
    if not is_first():
        smallest(0)  # returns once the first has come here, too
    yield
    if is_first():
        smallest(0)


def check_same(fingerprint: str) -> None:
    """Raise InputError unless all processes have read data of this hexadecimal fingerprint."""
    value = int(fingerprint[:12], 16)
    least, greatest = smallest(value), -smallest(-value)
    if least != greatest:
        raise InputError(f"the {count()} processes of this run read different data; expected the "
                         f"same files for all of them")


def unshared() -> contextlib.AbstractContextManager[None]:
    """While the block runs this process computes all that it asks for, and waits for no other.

    For what the first process does after the others have ended, such as the report's evidence.
    """
    from relation import parallel

    return parallel.unshared()


def all_processes_have(value: object) -> bool:
    """Whether the value is there, not None, in every process."""
    return bool(smallest(int(value is not None)))


def smallest(value: int) -> int:
    """The smallest of the processes' values."""
    if count() == 1:
        return value
    import torch

    from relation import parallel

    return parallel.smallest(value, torch.device("cpu"))


def _from_environment(name: str, least: int) -> int:
    """A number that torchrun sets, or the least that it may be where it is not set."""
    value = os.environ.get(name, str(least))
    if not value.isdecimal() or int(value) < least:
        raise InputError(f"{name} in the environment: expected a whole number of at least {least}, "
                         f"as torchrun sets it, got {value!r}")
    return int(value)
