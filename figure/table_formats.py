"""Tables of figures as Markdown, LaTeX and CSV. Names may hold anything: all of it is escaped."""

import csv
import io
import re
from collections.abc import Callable, Iterator

from experiment.command import escaping
from figure.tables_gathered import ALL, FIGURES, Experiment, Gathered, one_line, printed

NOTE = "Bold: best of each experiment. FPR95: lower is better."
LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
         "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
         "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "-": "-{}",  # before another
         "[": "{[}", "*": "{*}"}  # at the beginning of a row the \\ before it would take them


def markdown(found: Gathered) -> str:
    """GitHub's tables, one below the other."""
    blocks = []
    for groups, experiments in found.tables():
        heads = ["experiment", "score", *_heads(groups, markdown_text)]
        lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
        for experiment in experiments:
            for score, cells in _rows(experiment, "–", "**{}**".format):
                names = markdown_text(experiment.name), markdown_text(score)
                lines.append("| " + " | ".join([*names, *cells]) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, NOTE]) + "\n"


def latex(found: Gathered) -> str:
    """A tabular for each table, for \\input; needs the packages booktabs and textcomp.

    Names beyond Latin letters need XeLaTeX or LuaLaTeX, and a font that has them.
    """
    blocks = [f"% \\usepackage{{booktabs,textcomp}}\n% {NOTE}"]
    for groups, experiments in found.tables():
        lines = [rf"\begin{{tabular}}{{ll{'r' * len(FIGURES) * len(groups)}}}", r"\toprule"]
        if groups != (ALL,):
            lines.append(" & & " + " & ".join(
                rf"\multicolumn{{{len(FIGURES)}}}{{c}}{{{latex_text(group)}}}"
                for group in groups) + r" \\")
            lines += [rf"\cmidrule(lr){{{start}-{start + len(FIGURES) - 1}}}"
                      for start in range(3, 3 + len(FIGURES) * len(groups), len(FIGURES))]
        lines.append(" & ".join(["experiment", "score", *list(FIGURES.values()) * len(groups)])
                     + r" \\")
        for experiment in experiments:
            lines.append(r"\midrule")
            name = latex_text(experiment.name)
            for score, cells in _rows(experiment, "--", r"\textbf{{{}}}".format):
                lines.append(" & ".join([name, latex_text(score), *cells]) + r" \\")
                name = ""  # once for all of its rows
        blocks.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(blocks) + "\n"


def csv_table(found: Gathered) -> str:
    """One table of all experiments, figures in full; empty where undefined, so that columns stay
    numbers. A name that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    groups = list(dict.fromkeys(group for each in found.experiments for group in each.groups))
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["experiment", "score",
                    *(escaping.cell(one_line(name if group == ALL else f"{group} {name}"))
                      for group in groups for name in FIGURES.values())])
    for experiment in found.experiments:
        for score, values in experiment.scores.items():
            figures = (values.get((group, figure)) for group in groups for figure in FIGURES)
            table.writerow([escaping.cell(one_line(experiment.name)),
                            escaping.cell(one_line(score)),
                            *("" if value is None else value for value in figures)])
    return text.getvalue()


def markdown_text(text: str) -> str:
    """The text, escaped from Markdown and HTML."""
    escaped = re.sub(r"[&<>|:]", lambda sign: f"&#{ord(sign[0])};", one_line(text))
    return re.sub(r"[\\`*_\[\]~$]", r"\\\g<0>", escaped)


def latex_text(text: str) -> str:
    """The text as it stands, in text mode."""
    return re.sub(r"-(?=-)|[^\w\s-]|_", lambda sign: LATEX.get(sign[0], sign[0]), one_line(text))


def _heads(groups: tuple[str, ...], escaped: Callable[[str], str]) -> list[str]:
    if groups == (ALL,):
        return list(FIGURES.values())
    return [f"{escaped(group)} {name}" for group in groups for name in FIGURES.values()]


def _rows(experiment: Experiment, dash: str, bold: Callable[[str], str]
          ) -> Iterator[tuple[str, list[str]]]:
    """Each score with its cells, group by group."""
    columns = [(group, figure) for group in experiment.groups for figure in FIGURES]
    best = {column: experiment.best(*column) for column in columns}
    for score, values in experiment.scores.items():
        shown = {column: printed(values.get(column)) for column in columns}
        yield score, [dash if cell is None else bold(cell) if cell == best[column] else cell
                      for column, cell in shown.items()]
