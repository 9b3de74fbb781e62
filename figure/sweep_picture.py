"""The picture of a sweep: average precision and AUROC against the temperature."""

from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib

from experiment.files import writing

matplotlib.use("Agg")  # a file, never a window
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

COLOURS = {"cos_p": "#ee6677", "cos": "#4477aa"}
STYLES = {"float32": "-", "float16": "--", "bfloat16": ":"}
RINGS = {"float32": 4, "float16": 7, "bfloat16": 10}  # points: around each other where they agree
PANELS = {"ap": "average precision", "auroc": "AUROC"}


def draw(rows: list[dict[str, Any]], best: dict[str, Any], published: dict[str, Any] | None,
         path: Path) -> None:
    """A panel for each figure, a line for each kernel and dtype; two settings are marked."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(9, 3.8), layout="constrained")
    temperatures = sorted({row["temperature"] for row in rows})
    for axis, (figure_of, name) in zip(axes, PANELS.items()):
        for (dtype, kernel), line in groupby(rows, key=lambda row: (row["dtype"], row["kernel"])):
            line = sorted(line, key=lambda row: row["temperature"])
            axis.plot([row["temperature"] for row in line], [row[figure_of] for row in line],
                      STYLES[dtype], color=COLOURS[kernel], marker="o", markerfacecolor="none",
                      markersize=RINGS[dtype], label=f"{kernel}, {dtype}")
        _mark(axis, best, figure_of, marker="*", s=260, facecolors="none",
              edgecolors="black", label="best AP")
        if published is not None:
            _mark(axis, published, figure_of, marker="s", s=110, facecolors="none",
                  edgecolors="black", label="the paper's setting")
        axis.set(xlabel="temperature t", ylabel=name)
        if len(temperatures) <= 12:
            axis.set_xticks(temperatures, [f"{value:g}" for value in temperatures])
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    with writing.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=144, facecolor="white")
    plt.close(figure)


def _mark(axis, row: dict[str, Any], figure_of: str, **how) -> None:
    axis.scatter(row["temperature"], row[figure_of], zorder=3, **how)
