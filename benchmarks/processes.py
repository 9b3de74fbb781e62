"""Two processes of one thread against one process of one thread, on simulated data.

    python benchmarks/processes.py            # 100,000 rows

Each is started by torchrun on the same files. Prints JSON with the seconds of the relation scores
in the slowest process, their ratio, and the largest difference relative to the largest score.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS, Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks import simulate
from experiment.command import arguments
from experiment.command.launch import launch
from relation import relation_scores
from relation.parallel import add_up, rank_and_count


def compare(folder: Path, n: int) -> dict[str, float]:
    """Simulate n rows, and have them scored by one process and by two."""
    simulate.write(folder / "data", n)
    seconds, scores = {}, {}
    for count in (1, 2):
        subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone",
                        "--nproc-per-node", str(count), __file__, "--share", str(folder)],
                       check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        seconds[count] = json.loads((folder / f"{count}.json").read_text())
        scores[count] = torch.load(folder / f"{count}.pt", weights_only=True)
    difference = (scores[2] - scores[1]).abs().max() / scores[1].abs().max()
    return {"seconds_of_one": seconds[1], "seconds_of_two": seconds[2],
            "ratio": seconds[1] / seconds[2], "largest_difference": float(difference)}


def score_share(folder: Path) -> None:
    """What each process that `launch` joined does: the first one keeps seconds and scores."""
    features, probs, labels, _ = simulate.read(folder / "data")
    features.sum(), probs.sum()  # read from disk before the clock starts
    add_up(torch.zeros(1))  # waits for the others
    started = time.perf_counter()
    scores = relation_scores(features, probs, labels)
    rank, count = rank_and_count()
    if rank == 0:
        (folder / f"{count}.json").write_text(json.dumps(time.perf_counter() - started))
        torch.save(scores, folder / f"{count}.pt")


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    simulate.add_size_options(parser, n=100_000)
    parser.add_argument("--share", type=Path, help=SUPPRESS)  # what torchrun starts
    return parser


def main(args: Namespace) -> None:
    if args.share is not None:
        score_share(args.share)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"n": args.n, **compare(Path(folder), args.n)}))


if __name__ == "__main__":
    launch(main, get_args_parser())
