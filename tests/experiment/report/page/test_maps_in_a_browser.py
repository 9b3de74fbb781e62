"""Relation maps of the page, as a reader points at them."""

from dataclasses import replace

import pytest
import torch

from experiment.run.relation_maps import Maps, maps_of
from tests.experiment.report.page.conftest import CLASSES


@pytest.fixture
def mapped(found):
    """A function that gives a result with maps of its first three suspects over two epochs."""
    def make(kind=None, points=40, **changes):
        result = found(kind, **changes)
        samples = result.samples
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(samples.features.shape, generator=generator)
        before = replace(samples, features=samples.features + noise)
        maps = maps_of([before, samples], result.most_suspect(3).tolist(), kernel="cos_p",
                       points=points)
        return replace(result, maps=Maps(["1", "2"], maps, samples))
    return make


def test_a_point_for_every_row_that_matters(opened, mapped):
    page, data = opened(mapped("image"))
    one = data["maps"]["of"][0]
    circles = page.locator("#map > svg > circle")
    assert circles.count() == len(one["mean"]) == 40
    assert page.locator("#maps-suspect option").count() == 3
    assert page.locator("#map-suspect img").count() == page.locator("#map-point img").count() == 1
    assert "40 of 119 rows" in page.inner_text("#map-suspect")
    # Drawn the weakest first: larger means are higher up, larger variances farther right.
    for name, side, sign in (("mean", "cy", -1), ("variance", "cx", 1)):
        at = [float(circle.get_attribute(side)) for circle in circles.all()][::-1]
        order = sorted(range(40), key=one[name].__getitem__)
        places = [sign * at[n] for n in order]
        assert all(a <= b + 0.11 for a, b in zip(places, places[1:]))


def test_pointing_tells_what_it_is(opened, mapped):
    page, data = opened(mapped("image"))
    one = data["maps"]["of"][0]
    far = max(range(40), key=lambda n: one["variance"][n])
    page.locator("#map > svg > circle").nth(39 - far).hover(force=True)
    text = page.inner_text("#map-point")
    assert CLASSES[one["label"][far]] in text
    assert ("wrong" in text) == bool(one["positive"][far])
    assert f"variance {one['variance'][far]:.3g}" in text
    assert page.locator("circle.chosen").count() == 1
    page.focus("#map > svg")
    page.keyboard.press("ArrowLeft")
    other = (far - 1) % 40
    assert f"variance {one['variance'][other]:.3g}" in page.inner_text("#map-point")


def test_a_suspects_button_leads_to_its_map(opened, mapped):
    page, data = opened(mapped())
    assert page.locator(".to-map").count() == 3
    page.locator(".to-map").nth(2).click()
    assert page.input_value("#maps-suspect") == "2"
    name = data["rows"]["name"][2][:12]
    assert name in page.inner_text("#map-suspect")
    page.select_option("#maps-suspect", "1")
    assert data["rows"]["name"][1][:12] in page.inner_text("#map-suspect")
    assert page.locator("#map-point img").count() == 0  # nothing to show but names
    assert page.locator("#map-point script, #map-point b").count() == 0


@pytest.mark.parametrize("width, scheme", [(360, "dark"), (1400, "light")])
def test_maps_fit_the_window(opened, mapped, width, scheme):
    page, _ = opened(mapped("text"), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#map > svg").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_no_maps_no_panel(opened, found):
    page, _ = opened(found())
    assert not page.is_visible("#maps") and page.locator(".to-map").count() == 0
