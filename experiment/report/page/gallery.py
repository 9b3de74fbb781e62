"""The media of a page: each sample once, as data URIs, and what could not be shown."""

import base64

from experiment.command.errors import InputError
from experiment.inputs.samples import Samples


class Gallery:
    """Grows as rows are added; `entries` are what the page's script reads."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []  # {"image" | "text" | "sound" | "problem": content}
        self.size = 0  # characters of all entries
        self.problems: list[str] = []
        self._places: dict[tuple[int, int], int] = {}

    def add(self, samples: Samples, row: int) -> int | None:
        """Where in `entries` row `row` of `samples` is; None if there is nothing to show."""
        if samples.media is None:
            return None
        key = id(samples), row
        if key not in self._places:
            self._places[key] = len(self.entries)
            self.entries.append(self._entry(samples, int(samples.index[row])))
            self.size += sum(map(len, self.entries[-1].values()))
        return self._places[key]

    @property
    def kind(self) -> str | None:
        """"image", "text" or "sound", as soon as one could be shown."""
        kinds = (kind for entry in self.entries for kind in entry if kind != "problem")
        return next(kinds, None)

    def _entry(self, samples: Samples, number: int) -> dict[str, str]:
        try:
            kind, content = samples.media(number)
        except InputError as error:
            self.problems.append(f"row {number}: {error}")
            return {"problem": str(error)}
        if isinstance(content, bytes):
            content = f"data:{_mime(kind, content)};base64,{base64.b64encode(content).decode()}"
        return {kind: content}


def _mime(kind: str, content: bytes) -> str:
    """Of the kinds of files that a `Media` may hold."""
    if kind == "image":
        return "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
    return "audio/wav" if content.startswith(b"RIFF") else "audio/mpeg"
