"""The README is what a newcomer follows: its commands, output and snippets are those of a run.

What holds for every page (links, commands, files, options) is in tests/docs/test_pages.py.
"""

import re

import pandas
import pytest

from tests.conftest import ROOT
from tests.docs import pages

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_read_in_one_breath():
    assert len(README.splitlines()) <= 150


def test_the_two_commands_stand_alone_on_their_lines():
    first, second = re.findall(r"^pip install -r .*$", README, re.MULTILINE)
    assert first.endswith("python detect.py -n digits_noise0.08_60 --pow 4")
    assert second == "pip install -r requirements-dev.txt && python -m pytest"


def test_the_output_ends_with_the_files_that_a_run_writes(script, tmp_path, feature_file):
    shown = script("detect.py", "--features", feature_file, "--output", tmp_path / "report",
                   "--auto", "False").stdout.splitlines()[-1]
    [files] = re.findall(r"^written to \S+/report: (.*)$", README, re.MULTILINE)
    assert shown == f"written to {tmp_path}/report: {files}"
    assert {path.name for path in (tmp_path / "report").iterdir()} == set(files.split(", "))


def without_figures(line):
    """A line of output with # for each number, since these follow the machine."""
    return re.sub(r"-?\d[\d,.]*", "#", " ".join(line.split()))


@pytest.mark.slow  # a minute: trains the digits
def test_the_output_is_that_of_a_run(script, tmp_path):
    """Line for line but for figures; an ellipsis stands for any number of lines."""
    where = ("-n", "digits_noise0.08_60", "--cache_dir", tmp_path)
    script("download.py", *where)
    ran = script("detect.py", *where, "--pow", 4).stdout.replace(f"{tmp_path}/", "results/")
    ran = iter([without_figures(line) for line in ran.splitlines() if line])
    [block] = [block for block in pages.blocks("README.md") if "AUROC" in block.text]
    for line in filter(None, block.text.splitlines()):
        if line.strip() != "…":
            # Taken from the run in order: a line that is not there uses up all the others.
            assert without_figures(line) in ran, line


def test_python_snippets_run_as_they_stand(script, tmp_path, monkeypatch, capsys, feature_file,
                                           clusters):
    features, probs, labels, is_noisy = clusters
    script("detect.py", "--features", feature_file, "--output", tmp_path)
    monkeypatch.chdir(tmp_path)
    snippets = [block.text for page in ("docs/data.md", "README.md")
                for block in pages.blocks(page) if block.language == "python"]
    assert len(snippets) == 3
    assert sum("```python" in pages.read(page) for page in pages.PAGES) == 2
    known = {"features": features, "probs": probs, "labels": labels, "logits": probs.log(),
             "names": [f"{row}.jpg" for row in range(120)]}
    capsys.readouterr()
    for snippet in snippets:
        exec(snippet, known)
    assert known["issues"]["index"].tolist() == list(range(120))
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(shown) == 20 and {int(row) for row, *_ in shown[:8]} == \
        set(is_noisy.nonzero()[:, 0].tolist())
    assert len(snippets[2].strip().splitlines()) <= 5
    saved = script("detect.py", "--features", tmp_path / "train.npz", "--output", tmp_path)
    assert "0.jpg" in saved.stdout


def test_the_columns_for_other_tools_are_described(script, tmp_path, feature_file):
    """Those of docs/data.md are those of suspects.csv, but for the media and the outliers."""
    script("detect.py", "--features", feature_file, "--output", tmp_path)
    script("detect_ood.py", "--features", feature_file, "--test_features", feature_file,
           "--output", tmp_path / "ood")
    table = pages.read("docs/data.md").split("| column | content |")[1].split("\n\n")[0]
    described = set(re.findall(r"`(\w+)`", table)) - {"detect_ood"}
    written = {*pandas.read_csv(tmp_path / "suspects.csv"),
               *pandas.read_csv(tmp_path / "ood/suspects.csv")}
    named = {"given_name", "suggested_name", "predicted_name"}  # where the classes have names
    assert described - {"filepath", "text"} - named == written
