"""Pictures of the kinds that cameras, microscopes, scanners and browsers write."""

import io

import numpy as np
import pytest
from PIL import Image

from experiment.command.errors import InputError
from experiment.files import pictures
from experiment.inputs import media
from imagenet import data

RAMP = np.linspace(0, 1, 48).reshape(6, 8)
GREY = np.rint(255 * RAMP).astype(np.uint8)


def shown(path):
    """What the page shows, as (H, W) or (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(media.image_file(path).content)))


def given(path):
    """What the network gets, (H, W, 3)."""
    images = data.ImageSet(path.parent, np.array([path.name.encode()]), None, 0, {}, None, False)
    pixels, problem = data.Images(images, np.asarray)[0]
    assert not problem, problem
    return pixels


def same_for_both(path):
    page, pixels = shown(path), given(path)
    np.testing.assert_array_equal(np.broadcast_to(page.reshape(*page.shape[:2], -1), pixels.shape),
                                  pixels)
    return pixels


def test_every_width_of_grey_gives_the_same_picture(tmp_path):
    numbers = {
        "8.png": GREY, "16.png": np.rint(65535 * RAMP).astype(np.uint16),
        "16.tif": np.rint(65535 * RAMP).astype(np.uint16),
        "12.tif": np.rint(4095 * RAMP).astype(np.uint16),
        "8-in-16.tif": GREY.astype(np.uint16), "8-in-32.tif": GREY.astype(np.int32),
        "32.tif": np.rint(2e9 * RAMP).astype(np.int32), "unit.tif": RAMP.astype(np.float32),
        "bytes.tif": 255 * RAMP.astype(np.float32), "signed.tif": (2 * RAMP - 1).astype(np.float32),
        "any.tif": (1e6 * RAMP - 3e5).astype(np.float32)}
    for name, pixels in numbers.items():
        Image.fromarray(pixels).save(tmp_path / name)
        found = same_for_both(tmp_path / name)
        assert found.dtype == np.uint8 and np.abs(found - GREY[:, :, None].astype(int)).max() <= 1
    assert Image.open(tmp_path / "16.tif").mode == "I;16"
    assert Image.open(tmp_path / "unit.tif").mode == "F"


def test_big_endian_and_inverted_tiff(tmp_path):
    big = Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16))
    big.save(tmp_path / "b.tif", tiffinfo={262: 0})  # 0 is white
    np.testing.assert_array_equal(same_for_both(tmp_path / "b.tif")[:, :, 0], 255 - GREY)
    content = np.rint(65535 * RAMP).astype(">u2").tobytes()
    Image.frombytes("I;16B", (8, 6), content).save(tmp_path / "big.tif")
    assert Image.open(tmp_path / "big.tif").mode == "I;16B"
    np.testing.assert_array_equal(same_for_both(tmp_path / "big.tif")[:, :, 0], GREY)


def test_numbers_of_no_picture():
    odd = np.array([[np.nan, 0.0, 0.5, 1.0, np.inf]], np.float32)
    assert pictures.eight_bits(odd).tolist() == [[0, 0, 128, 255, 255]]
    assert pictures.eight_bits(np.full((1, 2), -7, np.int32)).tolist() == [[0, 0]]
    assert pictures.eight_bits(np.full((1, 2), np.nan, np.float32)).tolist() == [[0, 0]]
    assert pictures.eight_bits(np.array([[0, 1]], np.uint16)).tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB"])
def test_transparent_pixels_are_white(tmp_path, mode):
    """Left transparent, over a hidden black; right an opaque grey of 100."""
    left, right = ((0, 0, 0), (100, 100, 100))
    if mode in ("P", "L", "RGB"):  # one colour of the file is the transparent one
        picture = Image.new("RGB", (8, 6), right)
        picture.paste(left, (0, 0, 4, 6))
        picture = picture.quantize(2) if mode == "P" else picture.convert(mode)
        clear = {"P": picture.getpixel((0, 0)), "L": 0, "RGB": left}[mode]
        picture.save(tmp_path / "a.png", transparency=clear)
    else:
        picture = Image.new("RGBA", (8, 6), (*right, 255))
        picture.paste((*left, 0), (0, 0, 4, 6))
        picture.convert(mode).save(tmp_path / "a.png")
    pixels = same_for_both(tmp_path / "a.png")
    assert (pixels[:, :4] == 255).all() and (pixels[:, 4:] == 100).all()


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame(tmp_path, ending):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"a{ending}", save_all=True, append_images=frames[1:],
                   **({"lossless": True} if ending == ".webp" else {}))
    assert (same_for_both(tmp_path / f"a{ending}") == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp"])
def test_photos_are_upright_for_the_network_too(tmp_path, orientation, ending):
    corner = Image.new("L", (8, 6), 0)
    corner.paste(255, (0, 0, 4, 3))  # white where the camera's first pixel is
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner.convert("RGB").save(tmp_path / f"a{ending}", exif=exif, quality=100)
    pixels = given(tmp_path / f"a{ending}")
    expected = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1),
                8: (1, 0)}[orientation]  # its row and column in the upright picture
    assert pixels.shape[:2] == ((8, 6) if orientation > 4 else (6, 8))
    assert shown(tmp_path / f"a{ending}").shape[:2] == pixels.shape[:2]
    quarters = pixels[[1, 1, -2, -2], [1, -2, 1, -2], 0].reshape(2, 2) > 128
    assert np.argwhere(quarters).tolist() == [list(expected)]


def test_cmyk_and_one_bit(tmp_path):
    Image.new("CMYK", (8, 6), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    assert (same_for_both(tmp_path / "a.tif") == (0, 255, 255)).all()
    Image.fromarray(GREY > 100).save(tmp_path / "b.png")
    np.testing.assert_array_equal(same_for_both(tmp_path / "b.png")[:, :, 0], 255 * (GREY > 100))


def test_imagenet_is_opened_as_published(tmp_path):
    """Not turned, transparency dropped: on the page as well."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGBA", (8, 6), (10, 20, 30, 0))
    picture.save(tmp_path / "a.png", exif=exif)
    images = data.ImageSet(tmp_path, np.array([b"a.png"]), None, 0, {})
    pixels, _ = data.Images(images, np.asarray)[0]
    assert pixels.shape == (6, 8, 3) and (pixels == (10, 20, 30)).all()
    page = np.asarray(Image.open(io.BytesIO(images.media(0).content)).convert("RGB"))
    np.testing.assert_array_equal(page, pixels)


@pytest.mark.parametrize("error", [IndexError, KeyError, TypeError, OverflowError, AssertionError,
                                   NotImplementedError, RuntimeError, ZeroDivisionError])
def test_whatever_a_decoder_raises_is_a_reason(tmp_path, monkeypatch, error):
    def load(picture):
        raise error("no\nsuch block")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(InputError, match="^.?no"):
        pictures.opened(tmp_path / "a.png")
    images = data.ImageSet(tmp_path, np.array([b"a.png"]), None, 0, {}, None, False)
    assert data.Images(images, np.asarray)[0][1].startswith(
        f"{tmp_path / 'a.png'}: not a readable image (")


def test_a_program_is_never_run_on_a_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EOF\n")
    with pytest.raises(InputError, match="cannot identify image file"):
        pictures.opened(tmp_path / "a.png")


@pytest.mark.parametrize("name, kind", [
    ("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.JPG", "JPEG"), ("a", "JPEG"), ("a.image", "PNG"),
    ("a.avif", "AVIF"), ("a.gif", "GIF"), ("a.jp2", "JPEG2000"), ("a", "TIFF"), ("a.tga", "TGA"),
    ("a.ppm", "PPM"), ("a.webp", "WEBP"), ("a.dib", "DIB"), ("a.psd", None), ("a.png", None)])
def test_what_is_taken_for_a_picture(tmp_path, name, kind):
    """By its ending, also where it is broken (None), or by its content."""
    if kind is None:
        (tmp_path / name).write_bytes(b"broken")
    else:
        Image.fromarray(GREY).convert("RGB").save(tmp_path / name, kind)
        given(tmp_path / name)
    assert pictures.is_picture(tmp_path / name)


@pytest.mark.parametrize("name, content", [
    ("a.txt", b"text"), ("a", b""), ("a.heic", b"\0\0\0\x18ftypheic"), ("a.json", b"{}"),
    ("a.mp4", b"\0\0\0\x18ftypmp42"), ("a.jpg~", "JPEG"), ("a.jpg.part", "JPEG"),
    ("a.nef", "TIFF"), ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")])
def test_what_is_not(tmp_path, name, content):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        Image.fromarray(GREY).save(tmp_path / name, content)
    assert not pictures.is_picture(tmp_path / name)
