"""report.html: data, script and style in one file that may load nothing else.

The Content-Security-Policy allows this very script and this very style, by their hashes, and
pictures and sounds that are part of the file. A browser then refuses any network address, and any
script that a label or a file name may contain.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from experiment.files import writing
from experiment.report.page.contents import contents
from experiment.run.result import Result

HERE = Path(__file__).parent / "browser"
STYLES = ("page.css", "rows.css")
SCRIPTS = ("elements.js", "tabs.js", "plots.js", "tables.js", "rows.js", "maps.js", "review.js",
           "filters.js", "page.js")
# Inside a <script> only these could end it or begin another, or break a line for old parsers.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def write(result: Result, path: Path, *, options: dict[str, Any], show: int | None = None,
          progress: bool = False) -> None:
    """Write the page, with media and evidence of the first `show` suspects; None: a sensible
    default. `options`: the command line."""
    style, script = ("\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
                     for names in (STYLES, SCRIPTS))
    parts = {
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
                  "img-src data:; media-src data:; base-uri 'none'; form-action 'none'",
        "style": style, "script": script,
        "data": embedded(contents(result, options, show, progress=progress)),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]],
                  (HERE / "page.html").read_text(encoding="utf-8"))
    with writing.replacing(path) as temporary:
        # Bytes of a file name that are no text are written as \udc.., which JSON reads.
        temporary.write_bytes(page.encode("utf-8", errors="backslashreplace"))


def embedded(value: Any) -> str:
    """JSON that can stand in a <script type="application/json">, whatever its strings hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":")).translate(ESCAPES)


def _hash(content: str) -> str:
    """As a Content-Security-Policy names a piece of script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
