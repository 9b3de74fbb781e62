"""Leave-one-out probabilities and `auto`: what they cost, and what a slow cross-validation gives.

    python benchmarks/leave_one_out.py --n 200000                # beside the relation, refined
    python benchmarks/leave_one_out.py --against digits_noise0.08_60

The first prints seconds on simulated ImageNet-like data (--dim, --classes). The second compares, on
an experiment of the digits, average precision and seconds of the loss on leave-one-out and on
10-fold cross-validated probabilities of logistic regression, each with its own choice of penalty.
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import cross_val_predict
from torch import Tensor

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import simulate
from digits import samples as digits
from experiment import published
from experiment.command import arguments
from experiment.command.launch import launch
from relation import auto_scores, detect_label_noise, evaluate, leave_one_out_probs, unit_rows

FOLDS = 10


def at_size(n: int, *, dim: int, classes: int, relate: bool) -> dict[str, float]:
    """Seconds of leave-one-out probabilities, which are kept, of `auto` and of the relation scores
    with refinement; wall, and of the processor, which other jobs on the machine change less."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, simulate.__file__, "--out", folder, "--n", str(n),
                        "--dim", str(dim), "--classes", str(classes)], check=True)
        features, probs, labels, _ = simulate.read(Path(folder))
        stages = {"leave_one_out": lambda: leave_one_out_probs(features, labels, classes),
                  "auto": lambda: auto_scores(features, probs, labels),
                  "relation": lambda: detect_label_noise(features, probs, labels)}
        seconds = {}
        for name in stages if relate else ["leave_one_out"]:
            started, busy = time.perf_counter(), time.process_time()
            stages[name]()
            seconds[name] = time.perf_counter() - started
            seconds[f"{name}_cpu"] = time.process_time() - busy
    return {"rows": n, "dim": dim, "classes": classes, "threads": torch.get_num_threads(),
            **{f"{name}_seconds": round(value, 1) for name, value in seconds.items()}}


def against_cross_validation(name: str, cache_dir: Path) -> dict[str, dict[str, float]]:
    """Average precision of -log p_y and seconds, for both ways to out-of-sample probabilities."""
    experiment = published.find(name, "digits", cache_dir)
    samples = digits.load_train(experiment.folder, experiment.epoch)
    features, labels = unit_rows(samples.features), samples.labels
    classes = samples.probs.shape[1]
    started = time.perf_counter()
    loo = leave_one_out_probs(features, labels, classes)
    loo_seconds = time.perf_counter() - started
    started = time.perf_counter()
    logistic = LogisticRegressionCV(Cs=5, cv=3, scoring="neg_log_loss", max_iter=1000)
    folds = cross_val_predict(logistic, features.numpy(), labels.numpy(), cv=FOLDS,
                              method="predict_proba")
    fold_seconds = time.perf_counter() - started
    return {"leave-one-out ridge": _figures(loo, labels, samples.is_noisy, loo_seconds),
            f"{FOLDS}-fold logistic": _figures(torch.from_numpy(folds), labels, samples.is_noisy,
                                               fold_seconds)}


def _figures(probs: Tensor, labels: Tensor, is_noisy: Tensor, seconds: float) -> dict[str, float]:
    loss = -probs.gather(1, labels[:, None])[:, 0].clamp(min=1e-30).log()
    return {"ap": round(evaluate(loss.numpy(), is_noisy.numpy()).ap, 4),
            "seconds": round(seconds, 2)}


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    simulate.add_size_options(parser, n=20_000, dim=1024, classes=1000)
    parser.add_argument("--no_relation", action="store_true", help="leave-one-out alone")
    parser.add_argument("--against", metavar="NAME", help="digits experiment to compare on")
    parser.add_argument("--cache_dir", type=Path, metavar="DIR",
                        default=arguments.results_beside(Path(__file__).parent),
                        help="folder of the experiments (default: results)")
    return parser


def main(args: Namespace) -> None:
    print(json.dumps(
        against_cross_validation(args.against, args.cache_dir) if args.against else
        at_size(args.n, dim=args.dim, classes=args.classes, relate=not args.no_relation)))


if __name__ == "__main__":
    launch(main, get_args_parser())
