"""How much anonymous memory some lines of Python take, in a process of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEFORE = """
import torch
from experiment.command.watch import Watch
torch.set_num_threads({threads})
{given}
with Watch() as watch:
{lines}
print("grown by", watch.mib - watch.start)
"""


def growth_of(lines: str, *, given: str = "", threads: int = 1) -> float:
    """MiB of RssAnon at most while `lines` run, above what was there after `given`.

    The C library's heap is left as a user has it, whatever the environment says of it.
    """
    code = BEFORE.format(threads=threads, given=textwrap.dedent(given),
                         lines=textwrap.indent(textwrap.dedent(lines), "    "))
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("grown by")[1])
