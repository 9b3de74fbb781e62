"""Exceptions for a user's mistakes and for outside services that refuse, as opposed to bugs."""


class InputError(Exception):
    """Something given by the user cannot be used: a file, an option, a folder.

    The message is one line: what was wrong, what was expected, and the file or option. Scripts
    print it and end with exit status 2; `launch` says which other exceptions are no bugs.
    """


class Unavailable(Exception):
    """Something outside is not available now, such as a server that refuses.

    The message says what remains to be done. Scripts print it and end with exit status 1.
    """


def reason_of(error: BaseException) -> str:
    """The first line of a library's error, up to 200 characters, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
