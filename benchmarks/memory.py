"""Memory of label-error detection above its inputs, on simulated ImageNet-like data.

    python benchmarks/memory.py --n 50000

Prints JSON: rows, size of the inputs, largest anonymous memory (RssAnon, sampled) above what the
process held before it started, and seconds. The inputs are memory-mapped and not part of it.
Linux only, since it reads /proc/self/status.
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import simulate
from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.watch import Watch
from relation import detect_label_noise


def measure(n: int, *, dim: int, classes: int) -> dict[str, float]:
    """Simulate n rows in a temporary folder, detect, and report."""
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what it frees would be reused here and hide the peak.
        subprocess.run([sys.executable, simulate.__file__, "--out", folder, "--n", str(n),
                        "--dim", str(dim), "--classes", str(classes)], check=True)
        features, probs, labels, _ = simulate.read(Path(folder))
        started = time.perf_counter()
        with Watch() as watch:
            detect_label_noise(features, probs, labels)
        return {"rows": n, "dim": dim, "classes": classes,
                "inputs_mib": round((features.nbytes + probs.nbytes) / 2**20),
                "above_inputs_mib": round(watch.mib - watch.start),
                "seconds": round(time.perf_counter() - started, 1)}


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    simulate.add_size_options(parser, n=50_000, dim=1024, classes=1000)
    return parser


def main(args: Namespace) -> None:
    print(json.dumps(measure(args.n, dim=args.dim, classes=args.classes)))


if __name__ == "__main__":
    launch(main, get_args_parser())
