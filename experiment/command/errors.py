"""The exceptions that stand for a user's mistake, or the world's refusal, rather than ours."""


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


def reason_of(error: BaseException) -> str:
    """The first line of an error of some library, at most 200 characters; its type without one."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
