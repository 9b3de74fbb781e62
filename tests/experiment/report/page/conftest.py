"""Small results to make pages of: labels, names and media as hostile as they come."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.command.errors import InputError
from experiment.inputs import media
from experiment.inputs.samples import LeftOut, Samples
from experiment.report.page import html
from experiment.run import label_errors, ood
from experiment.run.settings import Settings

SETTINGS = Settings(kernel="cos_p", temperature=4, threshold=0.03, hop=1, chunk=50,
                            dtype="float32", device="cpu")
CLASSES = ("<script>alert(1)</script>", 'a "quoted", one', "כלב גדול", "</script><img src=x>")


def picture(row):
    """A square whose grey says which row it is; row 1 cannot be read."""
    if row == 1:
        raise InputError("1.jpg: not a readable picture (cannot identify <b>image</b> file)")
    return media.image(Image.new("L", (8, 8), row))


def reading(row):
    return media.text("" if row == 2 else f"text {row} & <i>more</i>\nof {'it ' * 100}")


def sound(row):
    silent = row == 3
    wave = np.sin(2 * np.pi * (200 + row) * np.arange(16_000) / 8000) / 2
    return media.sound(0 * wave if silent else wave, 8000)


SHOWN = {"image": picture, "text": reading, "sound": sound, None: None}


@pytest.fixture
def samples(clusters):
    """A function that gives the 120 rows of `clusters`, 8 labels of which are wrong."""
    def make(kind=None, **changes):
        features, probs, labels, is_noisy = clusters
        known = dict(source="somewhere", features=features, probs=probs, labels=labels,
                     is_noisy=is_noisy, class_names=CLASSES, media=SHOWN[kind],
                     ids=[f"<b>{row}</b>, \u202eof\u2028{row % 7}.jpg" for row in range(120)])
        return Samples(**{**known, **changes})
    return make


@pytest.fixture
def found(samples):
    """A function that gives the result of the label-error pipeline."""
    def make(kind=None, settings=SETTINGS, **changes):
        return label_errors.find_label_errors(
            samples(kind, **changes), settings, progress=False)
    return make


@pytest.fixture
def outliers(samples):
    """Rows 0 to 59 as test rows, the last 20 of them random; rows 60 to 119 as training rows."""
    train, test = samples("image"), samples("image")
    part = dict(is_noisy=None, ids=None, index=None)
    train = replace(train, features=train.features[60:], probs=train.probs[60:],
                    labels=train.labels[60:], media=lambda row: picture(row + 60), **part)
    odd = torch.randn(20, 16, generator=torch.Generator().manual_seed(1))
    test = replace(test, features=torch.cat([test.features[:40], odd]), probs=test.probs[:60],
                   labels=None, is_ood=torch.arange(60) >= 40, **part)
    return ood.find_ood(train, test, SETTINGS, detectors={}, progress=False)


@pytest.fixture
def written(tmp_path):
    """A function that writes the page of a result and gives its path and what its script reads."""
    def write(result, show=None, **settings):
        path = tmp_path / "report.html"
        html.write(result, path, options=settings, show=show)
        return path, embedded(path)
    return write


def embedded(path):
    """What the page's script reads from the page."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert len(found) == 1
    return json.loads(found[0])


@pytest.fixture
def opened(chromium, written):
    """A function that opens the page of a result; what went wrong in it fails the test."""
    trouble, contexts = [], []

    def watch(page):
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"script error: {error}"))
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:"))
                or trouble.append(f"request: {request.url}"))

    def open_page(result, *, width=1400, scheme="light", **how):
        path, data = written(result, **how)
        context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True,
                                       color_scheme=scheme, accept_downloads=True)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        watch(page)
        page.goto(path.as_uri())
        return page, data
    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture
def planted(samples):
    """Rows with everything that is wrong: outliers, copies, conflicts, a misspelt class, and rows
    that were left out."""
    def make(kind=None, **changes):
        whole = samples(kind, own_data=True)
        copied = [40, 41, 42]
        features = torch.cat([whole.features, whole.features[copied]])
        generator = torch.Generator().manual_seed(1)
        features[60:63] = 9 * torch.randn(3, 16, generator=generator)
        labels = torch.cat([whole.labels, whole.labels[copied]])
        labels[122] = (labels[122] + 1) % 4
        names = ["circle", "square", "triangle", "star", "circel"]
        labels[[64, 68]] = 4
        probs = torch.cat([whole.probs, whole.probs[copied]])
        probs = torch.nn.functional.pad(probs, (0, 1))
        known = dict(features=features, labels=labels, probs=probs, class_names=names,
                     is_noisy=None, ids=[f"<b>{row}.jpg" for row in range(123)], index=None,
                     left_out=(LeftOut(123, "<i>x</i>.jpg", "no picture"),))
        return label_errors.find_label_errors(replace(whole, **{**known, **changes}), SETTINGS,
                                              progress=False)
    return make
