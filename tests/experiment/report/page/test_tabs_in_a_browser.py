"""Outliers, copies and rows left out as a reader sees them, and decisions that come back."""

import re

import pytest

from tests.experiment.report.page.test_page_in_a_browser import exported, names_of, until


def opened_tab(page, name):
    page.locator("#tabs button", has_text=name).click()
    return int(page.locator("#tabs [aria-current=true] .number").inner_text())


def test_each_tab_lists_its_rows(opened, planted):
    result = planted("image")
    page, data = opened(result)
    assert [re.sub(r"\s*\d+$", "", text) for text in
            page.locator("#tabs button").all_inner_texts()] == [
        "Every row", "Wrong labels", "Outliers", "Duplicates", "Left out"]
    facts = dict(zip(page.locator("#facts dt").all_inner_texts(),
                     page.locator("#facts dd").all_inner_texts()))
    outliers = int(result.whole_set.outliers.is_outlier.sum())
    assert facts["outliers"] == str(outliers) and facts["rows with copies"] == "6"
    assert facts["groups of several labels"] == facts["misspelt classes"] == "1"
    assert facts["left out"] == "1"
    assert opened_tab(page, "Outliers") == page.locator("#rows > li").count() == outliers >= 3
    assert set(names_of(page)) >= {f"<b>{row}.jpg" for row in (60, 61, 62)}
    assert page.locator("#rows .sample").count() == outliers  # media, however far down
    assert opened_tab(page, "Wrong labels") == page.locator("#rows > li").count() > 8
    assert page.locator("#rows .verdict", has_text="misspelt class name").count() == 2
    assert opened_tab(page, "Left out") == 1
    assert page.inner_text("#left-out li") == "row 123 <i>x</i>.jpg: no picture"
    assert not page.is_visible("#rows") and not page.is_visible("#export")
    assert opened_tab(page, "Every row") == 123 and page.is_visible("#export")
    assert page.inner_text("#count") == "123 rows"


@pytest.mark.parametrize("scheme, width", [("light", 1400), ("dark", 390)])
def test_copies_stand_side_by_side(opened, planted, scheme, width):
    page, data = opened(planted("image"), scheme=scheme, width=width)
    assert opened_tab(page, "Duplicates") == 6
    assert names_of(page)[:2] in (["<b>42.jpg", "<b>122.jpg"],
                                  ["<b>122.jpg", "<b>42.jpg"])
    first = page.locator("#rows > li").nth(1).locator(".verdict").inner_text()
    assert "copies with several labels" in first and "copy of row 42" in first
    assert "suggested: drop" in first
    edges = page.eval_on_selector_all("#rows > li", "all => all.map(i => "
                                      "[i.getBoundingClientRect().left, i.offsetTop])")
    beside = [a[1] == b[1] and a[0] < b[0] for a, b in zip(edges, edges[1:])]
    assert beside == ([True, False, True, False, True] if width == 1400 else [False] * 5)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#rows > li").first.focus()
    for key in "kd":
        page.keyboard.press(key)
    assert page.inner_text("#progress") == "1 keep, 1 drop"


def test_decisions_come_back(opened, planted, tmp_path):
    page, _ = opened(planted())
    page.locator("#rows > li").first.focus()
    for key in "krd":
        page.keyboard.press(key)
    before = exported(page, tmp_path)
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.inner_text("#progress") == "nothing decided yet"
    page.set_input_files("#file", tmp_path / "decisions.csv")
    until(page, "document.getElementById('loaded').textContent !== ''")
    assert page.inner_text("#loaded") == "3 loaded"
    assert page.inner_text("#progress") == "1 keep, 1 relabel, 1 drop"
    assert page.locator("#rows > li").nth(1).get_attribute("data-decided") == "relabel"
    assert exported(page, tmp_path) == before


def test_decisions_of_other_rows_are_refused(opened, planted, tmp_path):
    page, data = opened(planted())
    name = data["rows"]["name"][0]
    index = data["rows"]["index"][0]
    (tmp_path / "other.csv").write_text(
        "\ufeffindex,id,given_label,decision,new_label\n"
        f'{index},"another ""file""",,drop,\n5,<b>5.jpg,,relabel,circle\n'
        f"6,<b>6.jpg,,relabel,no class\n7,<b>7.jpg,,burn,\nx,{name},,keep,\n999,,,drop,\n",
        encoding="utf-8")
    page.set_input_files("#file", tmp_path / "other.csv")
    until(page, "document.getElementById('loaded').textContent !== ''")
    assert page.inner_text("#loaded") == "2 loaded, 4 refused: not of these rows"
    assert page.inner_text("#progress") == "1 relabel"
    (tmp_path / "none.csv").write_text("name,label\na,b\n", encoding="utf-8")
    page.set_input_files("#file", tmp_path / "none.csv")
    until(page, "document.getElementById('loaded').textContent.startsWith('none.csv')")
    assert page.inner_text("#loaded") == "none.csv: no column index and decision and new_label"
