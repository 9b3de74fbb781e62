"""The one exception that stands for a user's mistake rather than ours."""


class InputError(Exception):
    """Something given by the user cannot be used: a file, an option, a folder.

    The message is one line: what was wrong, what would be right, and the file or option. Scripts
    print it and end with exit status 2; anything else that is raised is a defect and keeps its
    traceback.
    """
