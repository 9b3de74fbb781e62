"""Speed of the relation scores against the plain dense computation, in one run on simulated data.

    python benchmarks/speed.py                              # 50,000 rows, 1,000 classes
    python benchmarks/speed.py --n 200000 --sharpness 0.5
    python benchmarks/speed.py --n 67349 --dim 768 --classes 2        # the shape of SST-2
    python benchmarks/speed.py --kernel cos

The dense computation is the published one: 250 rows against all others, whole (250, N) arrays for
products, mask, sign and power. It is timed on a sample of rows and scaled up, the engine is timed
whole; the largest difference between the two on the sample is printed, too. Prints JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks import simulate  # noqa: E402  (after the project's root is known)
from relation import relation_scores, unit_rows  # noqa: E402

CHUNK = 250  # rows, as published
SAMPLE_CHUNKS = 4  # after one that warms up


def naive_rows(rows: Tensor, features: Tensor, probs: Tensor, labels: Tensor, *, kernel: str,
               temperature: float, threshold: float) -> Tensor:
    """Scores of the chosen rows, a whole (rows, N) array for each step."""
    k = (features[rows] @ features.T).clamp(min=0)
    if kernel == "cos_p":
        k = k * (probs[rows] @ probs.T)
    r = torch.where(labels[rows, None] == labels[None, :], k, -k)
    r = r * (r.abs() > threshold)
    return (r.sign() * r.abs() ** temperature).sum(1)


def compare(features: Tensor, probs: Tensor, labels: Tensor, *, kernel: str,
            temperature: float = 4, threshold: float = 0.03) -> dict[str, float]:
    """Seconds of both, their ratio, and the largest difference relative to the largest score."""
    how = dict(kernel=kernel, temperature=temperature, threshold=threshold)
    unit = unit_rows(features)
    sample = torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))
    sample = sample[:CHUNK * (SAMPLE_CHUNKS + 1)].split(CHUNK)
    naive_rows(sample[0], unit, probs, labels, **how)
    started = time.perf_counter()
    expected = torch.cat([naive_rows(rows, unit, probs, labels, **how) for rows in sample[1:]])
    rows = torch.cat(sample[1:])
    dense = (time.perf_counter() - started) * len(unit) / len(rows)
    started = time.perf_counter()
    scores = relation_scores(features, probs, labels, **how)
    engine = time.perf_counter() - started
    return {"dense_seconds_scaled_up": round(dense, 1), "engine_seconds": round(engine, 2),
            "ratio": round(dense / engine, 1),
            "largest_difference": float((scores[rows] - expected).abs().max() / scores.abs().max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000, help="rows (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=1024, help="features (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="classes (default: %(default)s)")
    parser.add_argument("--sharpness", type=float, default=2.2,
                        help="of the softmax (default: %(default)s)")
    parser.add_argument("--kernel", choices=("cos_p", "cos"), default="cos_p")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, simulate.__file__, "--out", folder, "--n", str(args.n),
                        "--dim", str(args.dim), "--classes", str(args.classes),
                        "--sharpness", str(args.sharpness)], check=True)
        features, probs, labels, _ = simulate.read(Path(folder))
        figures = compare(features, probs, labels, kernel=args.kernel)
    print(json.dumps({**vars(args), "threads": torch.get_num_threads(), **figures}))


if __name__ == "__main__":
    main()
