"""Read mutated files of one kind, in a process of its own, and say what went wrong.

    python -m tests.fuzz.mutated .csv 3000 0 FOLDER

Prints JSON: how many were read and refused, and for the others the number of the mutation and why;
each of these files stays in FOLDER. Mutations follow the seed.
"""

import json
import random
import resource
import signal
import sys
import traceback
from pathlib import Path

from experiment.command.arguments import Parser
from experiment.command.launch import launch
from tests.fuzz import samples

SECONDS, GROWTH = 20, 2**30  # that reading one file may take, and bytes that it may need
REPORTED = 20  # failures, before it ends
TOKENS = [b'"', b"'", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\t", b",", b"{", b"}",
          b"[", b"]", b"[[", b"null", b"NaN", b"-1", b"1e999", b"9" * 400, b"\\ud800", b"\xc3\x28",
          b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"PK\3\4", b"\x80\x02}", b"<html>"]


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for a broken file."""


def mutated(whole: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """One to four changes of a whole file."""
    content = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 4))):
        # The beginning, where headers are, comes as often as all the rest.
        end = len(content) if draw.random() < 0.5 else min(len(content), 100)
        at = draw.randint(0, max(end - 1, 0))
        to = min(len(content), at + draw.choice((1, 2, 4, 8, 100, 1000)))
        kind = draw.randrange(8)
        if kind == 0 and content:
            content[min(at, len(content) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[at:to] = draw.randbytes(to - at)
        elif kind == 2:
            del content[at:to]
        elif kind == 3:
            content[at:at] = content[at:to] * draw.choice((1, 3, 50))
        elif kind == 4:
            content[at:at] = draw.choice(TOKENS)
        elif kind == 5:
            token = draw.choice(TOKENS)
            content[at:at + len(token)] = token
        elif kind == 6:
            del content[at:]
        else:
            other = draw.choice(others)
            start = draw.randrange(len(other))
            content[at:to] = other[start:start + to - at]
    return bytes(content)


def status_of(path: Path, number: int) -> int | str:
    """The exit status of a script that reads the file, or what would be seen in its place."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        launch(lambda _: samples.read(path, number), Parser(None))
        return 0
    except SystemExit as ended:
        return ended.code or 0
    except TooLong:
        return f"takes more than {SECONDS} s"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(ending: str, count: int, seed: int, folder: Path) -> None:
    def stop(*_):
        raise TooLong
    signal.signal(signal.SIGALRM, stop)
    answer, sys.stdout, sys.stderr, sys.argv = sys.stdout, *(open("/dev/null", "w"),) * 2, ["fuzz"]
    contents = samples.whole()
    for number, content in enumerate(contents[ending]):
        path = folder / f"whole{number}{ending}"
        path.write_bytes(content)
        samples.check(path)
    others = [content for group in contents.values() for content in group]
    seen, failed = {"0": 0, "2": 0}, {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        draw = random.Random(f"{seed} {ending} {number}")
        path = folder / f"{number}{ending}"
        path.write_bytes(mutated(draw.choice(contents[ending]), others, draw))
        (folder / "now").write_text(path.name)  # for a crash of the process
        status = status_of(path, number)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if str(status) in seen and (peak - before) * 2**10 < GROWTH:
            seen[str(status)] += 1
            path.unlink()
        else:
            failed[path.name] = status if str(status) not in seen else f"needs {peak - before} KiB"
            before = max(before, peak if str(status) in seen else 0)
            if len(failed) == REPORTED:
                break
    print(json.dumps({"seen": seen, "failed": failed}), file=answer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
