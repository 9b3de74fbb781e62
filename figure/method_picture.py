"""The picture of the method: two clusters, one wrong label, and the relations that give it away.

Everything in it is computed: the points are made-up features, the edges are the signed relations of
`relation.kernel`, the bars are the scores of `relation_scores`.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch

from experiment.files import writing
from relation import detect_label_noise, unit_rows
from relation.kernel import Rows, relation

matplotlib.use("Agg")  # a file, never a window
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

BLUE, RED, GREY = "#4477aa", "#ee6677", "#555555"
PER_CLASS = 7
WRONG = 3  # a row of the first cluster that carries the second label
OUTLIER = 2 * PER_CLASS  # the last row lies with neither


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    """features (N, 3), probs (N, 2), labels (N,), positions (N, 2) for the drawing."""
    generator = torch.Generator().manual_seed(5)
    true = torch.tensor([0] * PER_CLASS + [1] * PER_CLASS + [1])
    centre = torch.tensor([[1.0, 0.1, 0.3], [0.1, 1.0, 0.3]])[true]
    centre[OUTLIER] = torch.tensor([0.05, 0.1, -1.0])
    features = centre + 0.13 * torch.randn(len(true), 3, generator=generator)
    confidence = 0.8 + 0.18 * torch.rand(len(true), 1, generator=generator)
    probs = torch.where(torch.arange(2) == true[:, None], confidence, 1 - confidence)
    probs[OUTLIER] = 0.5
    labels = true.clone()
    labels[WRONG] = 1
    angle = np.linspace(0.4, 0.4 + 2 * np.pi, PER_CLASS, endpoint=False)
    circle = np.c_[np.cos(angle), np.sin(angle)]
    circle[WRONG] *= 0.15  # in the middle of its cluster, where its relations are seen
    positions = np.r_[circle, circle * [-1, 1] + [3.3, 0], [[1.65, -1.45]]]
    return features, probs, labels, positions


def draw(path: Path) -> None:
    """The data with their relations on the left, the scores on the right."""
    features, probs, labels, positions = scene()
    r = relation(*[Rows(unit_rows(features), probs, labels)] * 2)
    scores = detect_label_noise(features, probs, labels).scores
    figure, (graph, bars) = plt.subplots(1, 2, figsize=(10, 3.7), width_ratios=(1.9, 1),
                                         layout="constrained")
    _draw_graph(graph, r, labels, positions)
    _draw_scores(bars, scores, labels)
    with writing.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, facecolor="white")
    plt.close(figure)


def _draw_graph(axis, r, labels, positions) -> None:
    for i in range(len(r)):
        for j in range(i):
            size = float(r[i, j].abs())
            if size > 0.03:
                axis.plot(*positions[[i, j]].T, color=BLUE if r[i, j] > 0 else RED,
                          linewidth=2.2 * size, alpha=min(1, 0.25 + size / 2), zorder=1)
    for label, colour, marker in ((0, BLUE, "o"), (1, RED, "s")):
        chosen = (labels == label).numpy()
        axis.scatter(*positions[chosen].T, s=110, color=colour, marker=marker,
                     edgecolor="white", linewidth=1.5, zorder=2, label=f"label {'AB'[label]}")
    axis.annotate("wrong label:\nits neighbours\ncontradict it", positions[WRONG], (-3.0, 0.0),
                  color=GREY, arrowprops=dict(arrowstyle="->", color=GREY), va="center")
    axis.annotate("outlier:\nrelated to nothing", positions[OUTLIER], (2.45, -1.5), color=GREY,
                  arrowprops=dict(arrowstyle="->", color=GREY), va="center")
    axis.plot([], [], color=BLUE, label="relation > 0: same label")
    axis.plot([], [], color=RED, label="relation < 0: other label")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, -0.04), fontsize=9)
    axis.set(xlim=(-3.1, 4.5), ylim=(-1.9, 1.5), aspect="equal")
    axis.axis("off")
    axis.set_title("relation = cosine of features × product of probabilities, signed by the labels",
                   fontsize=10)


def _draw_scores(axis, scores, labels) -> None:
    order = scores.argsort()
    names = {WRONG: "wrong label", OUTLIER: "outlier"}
    axis.barh(range(len(order)), scores[order].numpy(), height=0.7,
              color=[RED if labels[row] else BLUE for row in order])
    axis.set_yticks(range(len(order)), [names.get(int(row), "") for row in order])
    axis.tick_params(left=False)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title("score (higher = more suspect)", fontsize=10)
