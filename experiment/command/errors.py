"""The exceptions that stand for a user's mistake, or the world's refusal, rather than ours."""

import errno
import re

# What of torch and the libraries below it: of the CPU, of CUDA and MPS, of a memory map.
_MEMORY_ENDED = re.compile(r"out of memory|can(no|')t allocate memory|CUBLAS_STATUS_ALLOC_FAILED|"
                           r"std::bad_alloc", re.IGNORECASE)


class InputError(Exception):
    """Something given by the user cannot be used: a file, an option, a folder.

    The message is one line: what was wrong, what would be right, and the file or option. Scripts
    print it and end with exit status 2; anything else that is raised is a defect and keeps its
    traceback.
    """


class Unavailable(Exception):
    """Something outside is not to be had now, through nobody's mistake: a server refuses.

    The message says what remains to be done. Scripts print it and end with exit status 1.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended: Python's, the system's, or that of torch on any device."""
    return isinstance(error, MemoryError) \
        or isinstance(error, OSError) and error.errno == errno.ENOMEM \
        or isinstance(error, RuntimeError) and _MEMORY_ENDED.search(str(error)) is not None
