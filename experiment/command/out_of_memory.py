"""Out of memory: how it is recognised, and what is done: the same again, half as much at a time.

`halving` is used for relation scores and OOD baselines (half the chunk), `extracting` for features
of images, texts and sounds (half the batch). With one row at a time the run ends with one line of
advice, as leave-one-out and metrics do at once. Before a run `experiment.run.memory` compares what
it will need with what is there.
"""

import errno
import math
import re
from collections.abc import Callable
from typing import TypeVar

from tqdm import tqdm

from experiment.command import processes
from experiment.command.errors import InputError

T = TypeVar("T")
# What torch and the libraries below it say: of the CPU, of CUDA and MPS, of a memory map.
_MESSAGES = re.compile(r"out of memory|can(no|')t allocate memory|CUBLAS_STATUS_ALLOC_FAILED|"
                       r"std::bad_alloc", re.IGNORECASE)
SCORES_ADVICE = "--hop and --dtype float16 need less"
EXTRACTION_ADVICE = "a smaller network needs less, and so may --device cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's, the system's or torch's error of any device for too little memory.
    """
    return isinstance(error, MemoryError) \
        or isinstance(error, OSError) and error.errno == errno.ENOMEM \
        or isinstance(error, RuntimeError) and _MESSAGES.search(str(error)) is not None


def halving(compute: Callable[[int], T], size: int, *, unit: str = "row",
            advice: str = SCORES_ADVICE, shared: bool = True) -> T:
    """compute(size), again with half the rows at a time whenever it runs out of memory.

    Raises InputError, with `advice`, where one row at a time is too much. Work that is `shared` by
    several processes is not tried again, since the others would not know.
    """
    while True:
        try:
            return compute(size)
        except (MemoryError, OSError, RuntimeError) as error:
            if not is_out_of_memory(error) or shared and processes.count() > 1:
                raise
            if size == 1:
                raise InputError(f"out of memory with one {unit} at a time; {advice}") from error
        # Outside of the handler, whose traceback keeps the failed attempt's tensors alive.
        size = math.ceil(size / 2)
        tqdm.write(f"out of memory: {size} {unit}{'s' * (size > 1)} at a time from here on")


def extracting(compute: Callable[[int], T], batch_size: int, unit: str) -> T:
    """`halving` of a batch whose features are extracted by this process alone."""
    return halving(compute, batch_size, unit=unit, advice=EXTRACTION_ADVICE, shared=False)
