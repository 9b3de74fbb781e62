"""The page as a reader has it: opened from its file in Chromium, without a network."""

import csv
import re
from dataclasses import replace

import pytest

from experiment.cleaning import decisions
from experiment.inputs.samples import Reviewed
from experiment.report.page import contents
from tests.experiment.report.page.conftest import CLASSES, SETTINGS


def until(page, expression):
    """Wait until it is true. Playwright's own waiting would need eval, which the page forbids."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


# Text contents, not inner texts: rows beyond the screen are not laid out and have none of these.
def names_of(page):
    return page.locator("#rows .title").all_text_contents()


def given_of(page):
    return page.locator("#rows .labels div:first-child .label").all_text_contents()


def exported(page, tmp_path):
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "decisions.csv")
    with open(tmp_path / "decisions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_is_drawn(opened, found):
    page, data = opened(found("image"))
    assert page.title() == "Label errors: somewhere"
    assert page.inner_text("#facts div:first-child dd") == "120"
    assert "In-sample" not in page.inner_text("#summary")  # held_out is not known
    bars = sum(count > 0 for counts in data["histogram"]["counts"] for count in counts)
    assert page.locator("#histogram > svg rect").count() == bars
    assert {"1", "2", "5"} < set(page.locator("#histogram svg text").all_text_contents())
    assert page.locator("#curves polyline").count() == len(data["metrics"])
    assert page.locator("#metrics tbody tr").count() == len(data["metrics"])
    assert page.locator("#metrics .listed th").inner_text() == "relation"
    for text in ("precision", "relation score, higher = more suspect"):
        assert page.locator(".overview svg text.name", has_text=text).count() == 1
    assert page.locator("#rows > li").count() == 50 and page.inner_text("#pages") == "of 3"
    until(page, "[...document.querySelectorAll('#rows img')].every(i => i.complete)")
    sizes = page.eval_on_selector_all("#rows img", "all => all.map(i => i.naturalWidth)")
    assert len(sizes) > 50 * 7 and set(sizes) == {8}


def test_a_suspect_has_its_evidence(opened, found):
    page, data = opened(found("image"))
    first, suspect = page.locator("#rows > li").first, data["suspects"][0]
    for side in ("against", "support"):
        tiles = first.locator(f".{side} li")
        labels = [CLASSES[entry["label"]] for entry in suspect[side]]
        assert tiles.locator(".label").all_inner_texts() == labels
        relations = [float(text.replace("−", "-")) for text in
                     tiles.locator(".r").all_inner_texts()]
        assert relations == pytest.approx([entry["r"] for entry in suspect[side]], abs=0.006)
    assert first.locator(".truth").inner_text() == "wrong"
    weak = [abs(entry["r"]) <= SETTINGS.threshold for entry in suspect["against"]]
    assert first.locator(".against .weak").count() == sum(weak) < len(weak)
    assert page.locator("#rows .weak").count() > 0


def test_markup_in_names_is_text(opened, found):
    page, data = opened(found("text"))
    assert CLASSES[0] in given_of(page) and CLASSES[3] in given_of(page)
    assert data["rows"]["name"][0] in names_of(page)
    assert "& <i>more</i>" in page.locator("#rows .text").first.text_content()
    assert page.locator("#rows :is(script, i, b:not(.score b), iframe)").count() == 0
    assert page.locator("script").count() == 2 and page.locator("img").count() == 0


def test_filters_and_sorting(opened, found):
    page, data = opened(found())
    page.select_option("#given", "2")
    assert set(given_of(page)) == {CLASSES[2]}
    expected = data["rows"]["given"].count(2)
    assert page.inner_text("#count") == f"{expected} of 120 rows"
    page.select_option("#guess", "other")
    assert page.locator("#rows > li").count() == 2 == page.locator(".truth.positive").count()
    page.select_option("#given", "")
    assert page.inner_text("#count") == "8 of 120 rows"
    page.select_option("#guess", "issue")
    assert page.inner_text("#count") == "8 of 120 rows" and sum(data["findings"]["bits"]) == 8
    page.select_option("#guess", "")
    page.fill("#search", "<B>11")
    assert {name[:5] for name in names_of(page)} == {"<b>11"} and len(names_of(page)) == 11
    page.fill("#search", "nothing like it")
    assert page.is_visible("#nothing") and page.inner_text("#pages") == "of 1"
    page.fill("#search", "")
    for sort, key in (("name", data["rows"]["name"].__getitem__),
                      ("index", data["rows"]["index"].__getitem__),
                      ("given", data["rows"]["given"].__getitem__),
                      ("auto", data["rows"]["auto"].__getitem__), ("reverse", lambda n: -n)):
        page.select_option("#sort", sort)
        shown = page.eval_on_selector_all("#rows > li", "all => all.map(i => +i.dataset.position)")
        assert shown == sorted(range(120), key=key)[:50]


def test_a_pair_of_labels_shows_its_rows(opened, found):
    page, data = opened(found())
    wrong = [n for n in range(120) if data["rows"]["positive"][n]]
    assert page.inner_text("#confusion-legend").startswith("8 rows whose suggested label")
    pair = page.locator(".pairs button").first
    page.locator(".pairs button").first.click()
    assert page.locator("#rows > li").count() == int(pair.locator(".number").inner_text()) == 2
    assert page.locator(".matrix button").count() == 4
    page.fill("#search", "nothing like it")
    page.select_option("#decided", "keep")
    page.locator(".matrix button").nth(1).click()
    shown = page.eval_on_selector_all("#rows > li", "all => all.map(i => +i.dataset.position)")
    assert set(shown) < set(wrong) and len(shown) == 2
    page.click("#clear")
    assert page.inner_text("#count") == "120 rows"


def test_pages(opened, found):
    page, data = opened(found())
    rank = "#rows > li:first-child .rank"
    assert page.is_disabled("#previous")
    page.click("#next")
    assert page.inner_text(rank) == "51" and page.input_value("#page") == "2"
    page.fill("#page", "99")
    page.press("#page", "Enter")
    assert page.inner_text(rank) == "101" and page.locator("#rows > li").count() == 20
    assert page.is_disabled("#next")
    page.locator("#rows > li").first.focus()
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(rank) == "51"


def test_review_by_keys_and_its_export(opened, found, tmp_path):
    result = found("image")
    page, data = opened(result)
    assert page.is_disabled("#export")
    page.locator("#rows > li").first.focus()
    for key in ("k", "r", "d", "ArrowDown", "k", "ArrowUp", "u"):
        page.keyboard.press(key)
    assert page.inner_text("#progress") == "1 keep, 1 relabel, 1 drop"
    rows = exported(page, tmp_path)
    index, given, suggested = (data["rows"][name] for name in ("index", "given", "suggested"))
    assert [(int(row["index"]), row["decision"], int(row["suspect_rank"])) for row in rows] == [
        (index[0], "keep", 1), (index[1], "relabel", 2), (index[2], "drop", 3)]
    assert [int(row["given_label"]) for row in rows] == given[:3]
    assert [row["given_name"] for row in rows] == [CLASSES[label] for label in given[:3]]
    assert [row["new_label"] for row in rows] == ["", str(suggested[1]), ""]
    assert rows[1]["new_name"] == CLASSES[suggested[1]]
    assert [row["id"] for row in rows] == data["rows"]["name"][:3]
    page.select_option("#decided", "relabel")
    assert page.locator("#rows > li").count() == 1
    page.select_option("#decided", "open")
    assert page.inner_text("#count") == "117 of 120 rows"


def test_what_was_reviewed_before_is_exported_again(opened, found, samples, tmp_path):
    first, second, gone = samples().ids[:3]
    page, data = opened(found(own_data=True, reviewed=(
        Reviewed(0, first, CLASSES[1], "keep", ""),
        Reviewed(1, second, CLASSES[0], "relabel", CLASSES[2]),
        Reviewed(500, gone, "=1+1", "drop", ""))))
    assert page.inner_text("#count") == "118 rows" and not {0, 1} & {*data["rows"]["index"]}
    assert "reviewed" in page.inner_text("#facts")
    page.locator("#rows > li").first.locator("[data-decision=drop]").click()
    exported(page, tmp_path)
    decided = decisions.read(tmp_path / "decisions.csv")
    assert [one[:5] for one in decided[1:]] == [
        (0, "keep", "", first, CLASSES[1]), (1, "relabel", CLASSES[2], second, CLASSES[0]),
        (500, "drop", "", gone, "'=1+1")]
    assert decided[0].action == "drop" and decided[0].row == data["rows"]["index"][0]


def test_review_by_mouse_another_label_and_a_reload(opened, found, tmp_path):
    page, data = opened(found(ids=[f"=row({n})" for n in range(120)]))
    first = page.locator("#rows > li").first
    first.locator("[data-decision=relabel]").click()
    field = first.locator(".new-label input")
    assert field.input_value() == CLASSES[data["rows"]["suggested"][0]]
    row, = exported(page, tmp_path)
    assert row["id"] == "'" + data["rows"]["name"][0]
    field.fill(CLASSES[1])
    field.press("Tab")
    page.locator("#rows > li").nth(4).locator("[data-decision=drop]").click()
    page.reload()
    assert page.inner_text("#progress") == "1 relabel, 1 drop"
    rows = exported(page, tmp_path)
    assert rows[0]["new_name"] == 'a "quoted", one' and rows[1]["decision"] == "drop"
    for _ in range(2):
        page.locator("[aria-pressed=true]").first.click()
    assert page.is_disabled("#export") and page.locator("[aria-pressed=true]").count() == 0


def test_decisions_go_with_the_data_however_listed(opened, found):
    page, data = opened(found(own_data=True))
    other, fewer = opened(found(settings=replace(SETTINGS, hop=2)))
    assert data["key"] == fewer["key"] and data["score"] != fewer["score"]
    made = [[0, {"decision": "keep", "label": None}], [1, {"decision": "drop", "label": None}]]
    other.evaluate("made => localStorage.setItem(STORE, JSON.stringify(made))", made)
    other.reload()
    assert other.inner_text("#progress") == "1 keep"  # row 1 is not listed
    assert other.evaluate("JSON.parse(localStorage.getItem(STORE))") == made


def test_a_new_label_that_is_no_class_is_kept_and_not_exported(opened, found, tmp_path):
    page, _ = opened(found())
    page.locator("#rows > li").nth(1).locator("[data-decision=keep]").click()
    page.locator("#rows > li").first.locator("[data-decision=relabel]").click()
    field = page.locator("#rows .new-label input").first
    field.fill("no class of these")
    field.press("Tab")
    page.click("#next")
    page.click("#previous")
    assert field.input_value() == "no class of these"
    assert field.get_attribute("aria-invalid") == "true"
    assert page.inner_text("#progress") == "1 keep, 1 without a new label (not exported)"
    assert [row["decision"] for row in exported(page, tmp_path)] == ["keep"]
    field.fill(CLASSES[1])
    field.press("Tab")
    assert field.get_attribute("aria-invalid") == "false"
    assert page.inner_text("#progress") == "1 keep, 1 relabel"


def test_files_go_by_the_last_part_of_their_path(opened, found):
    folder = "a folder with a name so long that nothing of what follows would fit"
    page, _ = opened(found("sound", ids=[f"{folder}/{row}.wav" for row in range(120)]))
    assert all(re.fullmatch(r"\d+\.wav", name) for name in names_of(page))
    lines = page.locator("#rows .side .excerpt").all_text_contents()
    assert "9.wav" in lines and not any(folder in line for line in lines)
    assert page.locator("#rows .title bdi").first.get_attribute("title").startswith(folder + "/")


def test_a_name_that_was_cut_is_not_exported(opened, found, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "NAMES_SIZE", 0)
    page, data = opened(found(ids=["x" * 100, *map(str, range(1, 120))]))
    at = data["rows"]["index"].index(0)
    for n in (at, at + 1):
        page.locator("#rows > li").nth(n).locator("[data-decision=keep]").click()
    cut, whole = exported(page, tmp_path)
    assert cut["id"] == "" and cut["index"] == "0" and whole["id"] == whole["index"]


def test_keys_never_take_a_decision_back_and_go_on_over_the_pages(opened, found):
    page, _ = opened(found())
    page.locator("#rows > li").last.focus()
    page.keyboard.press("k")
    rank = "document.activeElement.querySelector('.rank')?.innerText"
    assert page.evaluate(rank) == "51" and page.inner_text("#progress") == "1 keep"
    page.keyboard.press("ArrowLeft")
    page.locator("#rows > li").last.focus()
    page.keyboard.press("k")
    assert page.inner_text("#progress") == "1 keep"
    page.fill("#page", "3")
    page.press("#page", "Enter")
    page.locator("#rows > li").last.focus()
    for key in ("d", "ArrowDown", "d"):
        page.keyboard.press(key)
    assert page.evaluate(rank) == "120" and page.inner_text("#progress") == "1 keep, 1 drop"


def test_one_sound_at_a_time(opened, found):
    page, _ = opened(found("sound"))
    sounds = "[...[...document.querySelectorAll('#rows audio')].slice(0, 2), player]"

    def only(number):
        until(page, f"{sounds}.every((sound, n) => sound.paused === (n !== {number}))")
    for number in (0, 1):
        page.locator("#rows > li").nth(number).focus()
        page.keyboard.press("p")
        only(number)
    button = page.locator("#rows .play").first
    button.click()
    only(2)
    page.locator("#rows > li").first.focus()
    page.keyboard.press("p")
    only(0)
    assert button.inner_text() == "▶"


def test_sounds_play(opened, found):
    page, _ = opened(found("sound"))
    first = page.locator("#rows > li").first
    first.focus()
    page.keyboard.press("p")
    until(page, "document.querySelector('#rows audio').currentTime > 0.05")
    assert 1.9 < page.evaluate("document.querySelector('#rows audio').duration") < 2.3
    page.keyboard.press("p")
    assert page.evaluate("document.querySelector('#rows audio').paused")
    button = first.locator(".play").first
    button.click()
    until(page, "player.currentTime > 0.05")
    assert button.inner_text() == "■"
    button.click()
    assert button.inner_text() == "▶" and page.evaluate("player.paused")


@pytest.mark.parametrize("kind, problem", [
    ("image", "1.jpg: not a readable picture (cannot identify <b>image</b> file)"),
    ("text", "an empty text"), ("sound", "2 s of silence")])
def test_what_cannot_be_shown_says_so(opened, found, kind, problem):
    page, _ = opened(found(kind))
    shown = page.locator("#rows .problem")
    assert shown.all_text_contents() == [f"could not be shown: {problem}"]
    assert problem in page.inner_text("#notes")


def test_rows_beyond_those_shown(opened, found):
    page, _ = opened(found("image"), show=3)
    assert "The first 3 come with picture and evidence" in page.inner_text("#suspects-legend")
    assert page.locator("#rows .sample").count() == page.locator("#rows .evidence").count() == 3
    assert page.locator("#rows .shown").count() == 3
    assert page.locator("#rows .labels").count() == 50


def test_outliers_have_no_labels(opened, outliers, tmp_path):
    page, data = opened(outliers)
    assert page.inner_text("h1") == "Outliers" and not page.is_visible("#confusion-panel")
    assert page.locator("[data-decision=relabel]").count() == 0
    assert page.locator("#rows h3").first.inner_text() == "Nearest training rows"
    page.locator("#rows > li").first.focus()
    for key in "rd":  # there is nothing to relabel
        page.keyboard.press(key)
    row, = exported(page, tmp_path)
    assert row["decision"] == "drop" and row["given_label"] == row["given_name"] == ""
    assert int(row["index"]) == data["rows"]["index"][0]


def test_without_truth(opened, found):
    page, _ = opened(found(is_noisy=None, own_data=True))
    assert not page.is_visible("#curves-panel") and not page.is_visible("#metrics-panel")
    assert page.locator(".truth").count() == 0
    assert page.inner_text("#suspects-title") == "Suspects by auto"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["image", "text", "sound", None])
def test_narrow_screens_in_both_themes(opened, found, kind, scheme):
    page, _ = opened(found(kind), width=390, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    brightness = "sum = (c) => c.match(/[0-9.]+/g).slice(0, 3).reduce((s, n) => s + +n, 0)"
    paper, ink = (page.evaluate(f"({brightness})(getComputedStyle(document.body).{name})")
                  for name in ("backgroundColor", "color"))
    assert (paper > 600 and ink < 200) if scheme == "light" else (paper < 200 and ink > 600)
    page.eval_on_selector_all("#rows > li",
                              "all => all.forEach(i => i.style.contentVisibility = 'visible')")
    edges = page.eval_on_selector_all("#rows :is(button, .label)",
                                      "all => all.map(i => i.getBoundingClientRect().right)")
    assert 100 < max(edges) <= 390
    fits = page.eval_on_selector_all(".pair", "all => all.map(p => p.scrollWidth <= p.clientWidth)")
    assert fits and all(fits)


def test_the_theme_can_be_chosen(opened, found):
    page, _ = opened(found())
    colours = []
    for theme in ("system", "light", "dark"):
        assert page.inner_text("#theme") == f"Theme: {theme}"
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.click("#theme")
    assert colours[0] == colours[1] != colours[2] and page.inner_text("#theme") == "Theme: system"
    page.click("#theme")
    page.click("#theme")
    page.reload()
    assert page.inner_text("#theme") == "Theme: dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colours[2]


def test_the_browser_refuses_what_is_not_in_the_file(chromium, written, found):
    """Whatever got in, the policy of the page stops it."""
    path, _ = written(found())
    context = chromium.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    page.evaluate("""() => {
        const add = (tag, attributes) =>
            document.body.append(Object.assign(document.createElement(tag), attributes));
        add("script", {textContent: "document.title = 'owned'"});
        add("img", {src: "http://127.0.0.1:9/x.png"});
        add("div", {innerHTML: "<img src='data:,' onerror=\\"document.title = 'owned'\\">"});
        fetch("http://127.0.0.1:9/").catch(() => {});
    }""")
    page.wait_for_timeout(200)
    assert page.title() == "Label errors: somewhere"
    for what in ("inline script", "inline event handler", "loading the image", "connecting to"):
        assert any(re.search(f"(?i){what}.* Content Security Policy", text) for text in said), said
    context.close()
