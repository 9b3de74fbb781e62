"""The table: what `auto` reaches beside single scores and cleanlab, by part and regime."""

from collections.abc import Callable

import numpy as np

from benchmarks.real.networks import REGIMES
from benchmarks.real.scores import CLEANLAB, ISSUES

ABOUT = ("part", "set", "regime", "noise", "rows", "features", "classes", "n_wrong", "repeated",
         "estimated_wrong", "wrong_from", "wrong_to", "contradicted", "seconds")
PARTS = ("dev", "heldout")


def best_single(row: dict) -> float:
    """The largest average precision of the project's own rows but `auto`; its table may have rows
    of cleanlab, which are not its own."""
    return max(value for name, value in row.items() if name not in (*ABOUT, "auto")
               and not name.startswith(("cleanlab", ISSUES)))


def best_cleanlab(row: dict) -> float:
    """The largest average precision of cleanlab's variants."""
    return max(value for name, value in row.items() if name.startswith(CLEANLAB))


def _column(name: str) -> Callable[[dict], float]:
    return lambda row: row[name]


COLUMNS = {"auto": _column("auto"), "loss": _column("loss"), "loss (loo)": _column("loss (loo)"),
           "relation": _column("relation"),
           "cleanlab, model": _column("cleanlab in-sample self_confidence"),
           "cleanlab, regression": _column("cleanlab cv self_confidence"),
           "cleanlab, tuned": _column("cleanlab cv tuned self_confidence"),
           "best of cleanlab": best_cleanlab, "best single score": best_single}


def table(rows: list[dict]) -> str:
    """Mean average precision over cells in Markdown, and how often `auto` is behind."""
    lines = [f"| sets | regime | cells | {' | '.join(COLUMNS)} |",
             "|---" * (3 + len(COLUMNS)) + "|"]
    for part in PARTS:
        for regime in (*REGIMES, "all"):
            chosen = [row for row in rows if row["part"] == part
                      and regime in (row["regime"], "all")]
            if chosen:
                figures = [f"{np.mean([read(row) for row in chosen]):.3f}"
                           for read in COLUMNS.values()]
                lines.append(f"| {part} | {regime} | {len(chosen)} | {' | '.join(figures)} |")
    for part in PARTS:
        chosen = [row for row in rows if row["part"] == part]
        if chosen:
            lines += ["", f"{part}: {_behind(chosen)}"]
    return "\n".join(lines) + "\n"


def _behind(rows: list[dict]) -> str:
    """How often `auto` is close to the best, and the estimate to the truth."""
    cleanlab = np.array([best_cleanlab(row) - row["auto"] for row in rows])
    single = np.array([best_single(row) - row["auto"] for row in rows])
    said = [f"auto is within .01 of the best of cleanlab, or above, in "
            f"{np.mean(cleanlab <= .01):.0%} of {len(rows)} cells (mean {-cleanlab.mean():+.3f}, "
            f"worst {-cleanlab.max():+.3f})",
            f"within .01 of the best single score in {np.mean(single <= .01):.0%}, within .02 in "
            f"{np.mean(single <= .02):.0%} (mean {-single.mean():+.3f}, worst "
            f"{-single.max():+.3f})"]
    for name, few in (("2 %", True), ("8 % and more", False)):
        there = [row for row in rows if row["noise"].endswith("02") == few]
        if there:
            said.append(_counted(name, there))
    return "; ".join(said) + "."


def _counted(name: str, rows: list[dict]) -> str:
    """How good the estimate is where one is claimed, which its interval says."""
    claimed = [row for row in rows if row["wrong_from"] == row["wrong_from"]]  # not NaN
    said = f"a number of wrong labels is claimed at {name} in {len(claimed)} of {len(rows)} cells"
    if not claimed:
        return said
    ratios = np.array([row["estimated_wrong"] / row["n_wrong"] for row in claimed])
    within = np.mean([row["wrong_from"] <= row["n_wrong"] <= row["wrong_to"] for row in claimed])
    off = np.abs(np.log(np.maximum(ratios, 1e-3)))
    return (f"{said}, estimated over true: median {np.median(ratios):.2f}, within a factor 1.3 in "
            f"{np.mean(off <= np.log(1.3)):.0%}, 2 in {np.mean(off <= np.log(2)):.0%}, the truth "
            f"is in the interval in {within:.0%}")
