"""Two processes of one thread against one process of one thread, on simulated data.

    python benchmarks/processes.py            # 100,000 rows

Each is started by torchrun on the same files. Prints JSON with the seconds of the relation scores
in the slowest process, their ratio, and the largest difference relative to the largest score.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torch import distributed  # noqa: E402

from benchmarks import simulate  # noqa: E402  (after the project's root is known)
from relation import relation_scores  # noqa: E402


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
    """What each process does: the first one keeps seconds and scores."""
    distributed.init_process_group("gloo")
    features, probs, labels, _ = simulate.read(folder / "data")
    features.sum(), probs.sum()  # read from disk before the clock starts
    distributed.barrier()
    started = time.perf_counter()
    scores = relation_scores(features, probs, labels)
    distributed.barrier()
    if distributed.get_rank() == 0:
        count = distributed.get_world_size()
        (folder / f"{count}.json").write_text(json.dumps(time.perf_counter() - started))
        torch.save(scores, folder / f"{count}.pt")
    distributed.destroy_process_group()


def get_args_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="rows (default: %(default)s)")
    parser.add_argument("--share", type=Path, help=argparse.SUPPRESS)  # what torchrun starts
    return parser


def main(args: argparse.Namespace) -> None:
    if args.share is not None:
        score_share(args.share)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"n": args.n, **compare(Path(folder), args.n)}))


if __name__ == "__main__":
    main(get_args_parser().parse_args())
