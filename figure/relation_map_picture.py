"""The picture of a relation map: the points, and the samples of the strongest relations beside."""

import io
import textwrap
import warnings
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import SubFigure
from PIL import Image

from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.media import Media
from experiment.inputs.samples import Samples
from experiment.run.relation_maps import Map

matplotlib.use("Agg")  # a file, never a window
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

BLUE, RED, GREY = "#4477aa", "#ee6677", "#555555"
COLOURS = LinearSegmentedColormap.from_list(
    "relation", ["#a02c3c", RED, "#e4e4e4", BLUE, "#1d4466"])
SIDES = {"same label": BLUE, "other label": RED}
BESIDE = 5  # samples of each sign,
WEAKEST = 0.005  # unless their mean relation is printed as 0.00
LABEL_LENGTH = 14  # characters of a class name below a picture
NAME_LENGTH = 40  # of a file name
LINE = 62  # characters of a text


def draw(found: Map, samples: Samples, epochs: list[str], path: Path) -> None:
    """The map on the left; on the right the chosen sample and those it is most related to."""
    figure = plt.figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1), wspace=0.04)
    order = found.mean.argsort(descending=True, stable=True).tolist()
    groups = {"same label": [at for at in order[:BESIDE] if found.mean[at] > WEAKEST],
              "other label": [at for at in order[:-BESIDE - 1:-1] if found.mean[at] < -WEAKEST]}
    _draw_points(left, found, groups)
    left.suptitle(f"{len(epochs)} epochs: {plain(', '.join(epochs), 70)}", fontsize=10)
    _draw_beside(right, found, samples, groups)
    with warnings.catch_warnings():
        # A character that the font lacks becomes a box, which says enough.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        with writing.replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=144, facecolor="white")
    plt.close(figure)


def plain(text: str, length: int) -> str:
    """One printable line of at most `length` characters that matplotlib does not take for maths."""
    line = _one_line(text)
    return _no_maths(line if len(line) <= length else line[:length - 1] + "…")


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _no_maths(line: str) -> str:
    return line.replace("$", r"\$")


def _draw_points(figure: SubFigure, found: Map, groups: dict[str, list[int]]) -> None:
    axis = figure.subplots()
    weakest_first = torch.arange(len(found.others)).flip(0)
    span = max(float(found.last.abs().max()), 1e-6)
    points = axis.scatter(
        found.variance[weakest_first], found.mean[weakest_first], c=found.last[weakest_first],
        cmap=COLOURS, vmin=-span, vmax=span, s=18 if len(found.others) <= 3000 else 8,
        edgecolors=GREY, linewidths=0.2)
    ringed = [at for group in groups.values() for at in group]
    axis.scatter(found.variance[ringed], found.mean[ringed], s=60, facecolors="none",
                 edgecolors="black", linewidths=0.9, label="shown beside")
    axis.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    axis.set(xlabel="variance over the epochs", ylabel="mean relation over the epochs")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.colorbar(points, ax=axis, label="relation at the last epoch", shrink=0.8, pad=0.02)


def _draw_beside(figure: SubFigure, found: Map, samples: Samples, groups: dict[str, list[int]]
                 ) -> None:
    media = {row: _media(samples, row) for row in
             [found.index, *(int(found.others[at]) for group in groups.values() for at in group)]}
    pictures = {row: one for row, one in media.items() if one is not None and one.kind == "image"}
    if pictures:
        _draw_pictures(figure, found, samples, groups, pictures)
    else:
        _draw_texts(figure, found, samples, groups, media)


def _draw_pictures(figure: SubFigure, found: Map, samples: Samples, groups: dict[str, list[int]],
                   pictures: dict[int, Media]) -> None:
    grid = figure.add_gridspec(3, BESIDE)
    _draw_picture(figure.add_subplot(grid[0, 0]), found.index, pictures)
    about = figure.add_subplot(grid[0, 1:])
    about.axis("off")
    about.text(0, 0.5, _about(found, samples), va="center", fontsize=10)
    for line, (name, group) in enumerate(groups.items(), 1):
        for column, at in enumerate(group):
            axis = figure.add_subplot(grid[line, column])
            row = int(found.others[at])
            _draw_picture(axis, row, pictures)
            axis.set_title(f"{float(found.mean[at]):+.2f}", fontsize=9)
            axis.set_xlabel(label_of(samples, row), fontsize=8)
            if column == 0:
                axis.set_ylabel(name, color=SIDES[name], fontsize=10)


def _draw_picture(axis: Axes, row: int, pictures: dict[int, Media]) -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color="#bbbbbb", linewidth=0.6)
    if row in pictures:
        with Image.open(io.BytesIO(pictures[row].content)) as picture:
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255,
                        interpolation="nearest" if max(picture.size) < 64 else None)


def _draw_texts(figure: SubFigure, found: Map, samples: Samples, groups: dict[str, list[int]],
                media: dict[int, Media | None]) -> None:
    lines = [_about(found, samples), *_text_of(media[found.index], lines=5)]
    for name, group in groups.items():
        lines += ["", f"strongest relations, {name}:"] if group else []
        for at in group:
            row = int(found.others[at])
            lines += [f"{float(found.mean[at]):+.2f}  {label_of(samples, row)}, "
                      f"{_name_of(samples, row)}",
                      *(f"      {line}" for line in _text_of(media[row], lines=1))]
    axis = figure.subplots()
    axis.axis("off")
    axis.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.4)


def _about(found: Map, samples: Samples) -> str:
    lines = [_name_of(samples, found.index), label_of(samples, found.index)]
    if found.left_out:
        lines.append(f"{len(found.others):,} of {len(found.others) + found.left_out:,} points")
    return "\n".join(lines)


def _name_of(samples: Samples, row: int) -> str:
    name = "" if samples.ids is None else str(samples.ids[row])
    return f"sample {row}" + f": {plain(name, NAME_LENGTH)}" * (name not in ("", str(row)))


def _text_of(media: Media | None, *, lines: int) -> list[str]:
    """The beginning of a text, nothing of other media."""
    if media is None or media.kind != "text":
        return []
    wrapped = textwrap.wrap(_one_line(media.content), LINE, max_lines=lines, placeholder=" …")
    return [_no_maths(line) for line in wrapped]


def label_of(samples: Samples, row: int) -> str:
    """The given label, and whether it is known to be wrong."""
    label = int(samples.labels[row])
    name = str(label) if samples.class_names is None else samples.class_names[label]
    wrong = samples.is_noisy is not None and bool(samples.is_noisy[row])
    return f"label {plain(name, LABEL_LENGTH)}" + " (wrong)" * wrong


def _media(samples: Samples, row: int) -> Media | None:
    """What there is to show of a row, if anything."""
    try:
        return None if samples.media is None else samples.media(row)
    except InputError:
        return None
