from PIL import Image

from figure.method_picture import OUTLIER, WRONG, scene
from relation import detect_label_noise


def test_the_picture_shows_what_it_says():
    """The wrong label is the most suspect row, the outlier is neither good nor bad."""
    features, probs, labels, positions = scene()
    scores = detect_label_noise(features, probs, labels).scores
    assert int(scores.argmax()) == WRONG and float(scores[WRONG]) > 0
    assert abs(float(scores[OUTLIER])) < 0.3 and positions.shape == (len(labels), 2)


def test_script_draws_it(script, refused, tmp_path):
    script("figure/method.py", "--out", tmp_path / "method.png")
    with Image.open(tmp_path / "method.png") as picture:
        assert picture.size[0] > 1000
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("figure/method.py", "--out", tmp_path / "file/m.png")
