import csv
import io
import json
import os

import hypothesis
import hypothesis.strategies as st
import pytest
from markdown_it import MarkdownIt

from experiment.command import escaping
from experiment.command.errors import InputError
from figure import table_formats, tables_gathered
from figure.table_formats import csv_table, latex, latex_text, markdown, markdown_text

HOSTILE = ["a|b", "\\", "a\\|b", "x_1_y", "*a* **b**", "<b>&amp;</b>", "[a](b)", "`c`", "~~d~~",
           "# e", "$\\frac{1}{2}$", "50 % & more", "^~", "--- “q”", "{}", "=1+1", "@x", "-2", "+3",
           "line\nbreak\r\n\ttab", 'say "hi", ok', "\\input{/etc/passwd}", "%", "[!t]", "*",
           "http://a.b", "caf\u00e9 \u732b", "\udcff\x00", "| | |", "```"]


def row(name, group="all", auroc=0.5, ap=0.5, tnr95=0.5, fpr95=0.5):
    return {"name": name, "group": group, "auroc": auroc, "ap": ap, "tnr95": tnr95, "fpr95": fpr95}


def write(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"rows": rows, "settings": {}}))


@pytest.fixture
def results(tmp_path):
    """Two label-error experiments and one on outliers with two OOD sets."""
    write(tmp_path / "b/report", [row("loss", ap=0.7004, fpr95=0.1),
                                  row("auto", ap=0.9, tnr95=None),
                                  row("relation", ap=0.8999999, fpr95=0.2)])
    write(tmp_path / "a/deep", [row("loss", ap=0.1)])
    write(tmp_path / "ood/report", [row(name, group, ap=ap) for name, ap in (("MSP", 0.3),
                                                                           ("relation", 0.4))
                                    for group in ("all", "sun", "dtd")])
    return tmp_path


def cells_of(text):
    """The rows of all tables as a Markdown renderer sees them: [table][row][cell]."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found:
            found[-1][-1].append("".join(
                f"**{child.content}**" if bold else child.content for child, bold in
                zip(token.children, _bold(token.children))) if token.level > 2 else None)
    return [[[cell for cell in line if cell is not None] for line in table] for table in found]


def _bold(children):
    """Whether each child is text within **; anything but text and ** is markup that got through."""
    inside = 0
    for child in children:
        assert child.type in ("text", "text_special", "strong_open", "strong_close"), child
        inside += {"strong_open": 1, "strong_close": -1}.get(child.type, 0)
        yield bool(inside) and child.type == "text"


def test_one_row_for_each_experiment_and_score(results):
    (groups, plain), (_, outliers) = tables_gathered.gather([results]).tables()
    assert groups == ("all",) and [each.name for each in plain] == ["a/deep", "b"]
    assert [(each.name, each.groups) for each in outliers] == [("ood", ("all", "sun", "dtd"))]
    first, second = cells_of(markdown(tables_gathered.gather([results])))
    assert first == [["experiment", "score", "AUROC", "AP", "TNR95", "FPR95"],
                     ["a/deep", "loss", "**0.500**", "**0.100**", "**0.500**", "**0.500**"],
                     ["b", "loss", "**0.500**", "0.700", "**0.500**", "**0.100**"],
                     ["b", "auto", "**0.500**", "**0.900**", "–", "0.500"],
                     ["b", "relation", "**0.500**", "**0.900**", "**0.500**", "0.200"]]
    assert second[0][2:] == [f"{group} {name}" for group in ("all", "sun", "dtd")
                             for name in ("AUROC", "AP", "TNR95", "FPR95")]
    assert [line[3] for line in second[1:]] == ["0.300", "**0.400**"]


def test_latex_of_the_same(results):
    text = latex(tables_gathered.gather([results]))
    assert r"b & loss & \textbf{0.500} & 0.700 & \textbf{0.500} & \textbf{0.100} \\" in text
    assert r" & auto & \textbf{0.500} & \textbf{0.900} & -- & 0.500 \\" in text
    assert r"\multicolumn{4}{c}{sun}" in text and r"\cmidrule(lr){11-14}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count(r"\midrule") == 3
    for line in text.splitlines():
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert line.count("&") in (5, 13)


def test_csv_has_figures_in_full_and_gaps(results):
    rows = list(csv.DictReader(io.StringIO(csv_table(tables_gathered.gather([results])))))
    assert len(rows) == 6
    assert rows[3]["AP"] == "0.8999999" and rows[2]["TNR95"] == "" and rows[0]["sun AP"] == ""
    assert rows[5] | {"AP": ""} == rows[5] | {"AP": "", "dtd AP": "0.4", "experiment": "ood"}


def test_names_that_a_spreadsheet_would_compute(tmp_path):
    for name in ("=1+1", "-x", "@x"):
        write(tmp_path / name, [row("+loss")])
    found = list(csv.DictReader(io.StringIO(csv_table(tables_gathered.gather([tmp_path])))))
    assert [line["experiment"] for line in found] == ["'-x", "'=1+1", "'@x"]
    assert found[0]["score"] == "'+loss"


def test_a_single_ood_set_is_not_said_twice(tmp_path):
    write(tmp_path, [row("MSP", "all"), row("MSP", "svhn")])
    only, = tables_gathered.gather([tmp_path]).experiments
    assert only.groups == ("all",) and only.name == tmp_path.name


def test_folders_beside_each_other_keep_their_paths(results):
    found = tables_gathered.gather([results / "a", results / "b"])
    assert [each.name for each in found.experiments] == [str(results / "a/deep"), "b"]


def test_scores_are_chosen_in_order(results):
    found = tables_gathered.gather([results], scores=["relation", "loss"])
    assert [list(each.scores) for each in found.experiments] == [["loss"], ["relation", "loss"],
                                                                 ["relation"]]
    with pytest.raises(InputError, match="--scores 'los': no such score; there are loss"):
        tables_gathered.gather([results], scores=["loss", "los"])


@pytest.mark.parametrize("content, reason", [
    ("{", "not readable (Expecting property name"),
    ("[" * 100_000, "not readable (maximum recursion"),
    (b"\xff", "not readable ('utf-8' codec"),
    ("[]", "not a metrics.json of this project"),
    ("{}", "not a metrics.json of this project"),
    ('{"rows": {"a": 1}}', "not a metrics.json of this project"),
    (json.dumps({"rows": [{"name": "a"}]}), "not a metrics.json of this project"),
    (json.dumps({"rows": [row("a", ap="0.5")]}), "not a metrics.json of this project"),
    (json.dumps({"rows": [row("a", ap=True)]}), "not a metrics.json of this project"),
    (json.dumps({"rows": [row("a", ap=1.5)]}), "not a metrics.json of this project"),
    (json.dumps({"rows": [row("a", ap=float("nan"))]}), "not a metrics.json of this project"),
    (json.dumps({"rows": [row(3)]}), "not a metrics.json of this project"),
    (json.dumps({"rows": []}), "it has no figures"),
])
def test_foreign_files_are_named_and_left_out(results, content, reason):
    path = results / "foreign/metrics.json"
    path.parent.mkdir()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = tables_gathered.gather([results])
    assert len(found.experiments) == 3 and len(found.skipped) == 1
    assert found.skipped[0].startswith(f"{path} is left out: {reason}")
    with pytest.raises(InputError, match="no metrics.json with figures.*is left out"):
        tables_gathered.gather([results / "foreign"])


def test_undefined_figures_have_no_best(tmp_path):
    write(tmp_path, [row("loss", auroc=None, ap=None, tnr95=None, fpr95=None)])
    found = tables_gathered.gather([tmp_path])
    assert cells_of(markdown(found))[0][1][1:] == ["loss", "–", "–", "–", "–"]
    assert "loss & -- & -- & -- & --" in latex(found)


def test_nothing_found(tmp_path):
    with pytest.raises(InputError, match="no metrics.json with figures; detect.py writes one"):
        tables_gathered.gather([tmp_path])
    with pytest.raises(InputError, match="nowhere: no such folder"):
        tables_gathered.gather([tmp_path / "nowhere"])


@hypothesis.settings(deadline=None)  # a busy machine
@hypothesis.given(st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1), min_size=1, max_size=4,
                           unique_by=tables_gathered.one_line))
@hypothesis.example(HOSTILE)
def test_any_name_comes_out_as_it_went_in(names):
    experiments = [tables_gathered.Experiment(name, ("all", name), {
        name: {(group, figure): 0.5
               for group in ("all", name) for figure in tables_gathered.FIGURES}})
        for name in names]
    found = tables_gathered.Gathered(experiments)
    plain = [tables_gathered.one_line(name) for name in names]
    for table, name in zip(cells_of(markdown(found)), plain):
        assert [line[:2] for line in table[1:]] == [[name, name]]
        assert table[0][6] == f"{name} AUROC".strip()
        assert all(len(line) == 10 for line in table)
    for line, name in zip(csv.DictReader(io.StringIO(csv_table(found))), plain):
        assert line["experiment"].removeprefix("'") == name.removeprefix("'")
        assert line["experiment"] == escaping.cell(name)
    text = latex(found)
    assert text.count(r"\begin{tabular}") == len(found.tables())
    for name in plain:
        assert unescaped(latex_text(name)) == name
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") in (3, 9)


def unescaped(text):
    """What LaTeX prints; fails on a special character that would act."""
    told, at = "", 0
    words = {value: key for key, value in table_formats.LATEX.items()}
    longest_first = sorted(words, key=len, reverse=True)
    while at < len(text):
        word = next((word for word in longest_first if text.startswith(word, at)), text[at])
        assert word in words or word not in "\\{}&%$#_~^"
        told, at = told + words.get(word, word), at + len(word)
    return told


def test_escapes_that_matter_most():
    assert markdown_text("a|b_c<d>") == r"a&#124;b\_c&#60;d&#62;"
    assert latex_text("50%_a--b\\x") == r"50\%\_a-{}-b\textbackslash{}x"


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are POSIX's")
def test_folders_with_odd_names(tmp_path):
    for name in ("a|b & $c_d%", "line\nbreak", "\udcff"):
        write(tmp_path / name / "report", [row("loss")])
    (tmp_path / "line\nbreak/report/metrics.json").write_text("{")
    found = tables_gathered.gather([tmp_path])
    assert "line break" in found.skipped[0]
    for form in (markdown, latex, csv_table):
        form(found).encode("utf-8")
    assert cells_of(markdown(found))[0][1][0] == "a|b & $c_d%"
