import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiment.command.errors import InputError
from experiment.inputs import media


def picture(height, width):
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    return Image.fromarray(ramp.astype(np.uint8))


def opened(shown):
    assert shown.kind == "image"
    return Image.open(io.BytesIO(shown.content))


def test_a_large_picture_becomes_a_jpeg_thumbnail():
    thumbnail = opened(media.image(picture(400, 800)))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (media.SIDE, media.SIDE // 2))


def test_a_tiny_picture_keeps_every_pixel():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    kept = opened(media.image(Image.fromarray(pixels)))
    assert kept.format == "PNG" and (np.asarray(kept) == pixels).all()


def test_transparent_pixels_are_white():
    clear = opened(media.image(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert clear.getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees
    picture(100, 300).save(tmp_path / "turned.jpg", exif=turned)
    width, height = opened(media.image_file(tmp_path / "turned.jpg")).size
    assert height > width


@pytest.mark.parametrize("content, reason", [(b"no picture", "cannot identify"),
                                             (None, "no such file")])
def test_an_unreadable_picture_is_named(tmp_path, content, reason):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"broken.jpg: not a readable picture .*{reason}"):
        media.image_file(path)


def test_a_picture_cut_short_is_named(tmp_path):
    path = tmp_path / "cut.jpg"
    picture(300, 300).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cut.jpg: not a readable picture .*truncated"):
        media.image_file(path)


def test_a_long_text_is_cut_and_an_empty_one_refused():
    assert media.text("short") == ("text", "short")
    assert media.text("x" * 5000).content == "x" * media.CHARACTERS + " …"
    with pytest.raises(InputError, match="an empty text"):
        media.text(" \n")


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_a_sound_keeps_its_pitch_and_length(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    shown = media.sound(tone, rate)
    wave, found = soundfile.read(io.BytesIO(shown.content))
    assert (shown.kind, found) == ("sound", media.RATE)
    assert abs(len(wave) / found - 2) < 0.2  # MP3 pads with silence
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() * found / len(wave) - 440) < 2


def test_silence_is_named_and_a_long_sound_cut():
    with pytest.raises(InputError, match="^2 s of silence$"):
        media.sound(np.zeros(32_000), 16_000)
    long = np.full(16_000 * 60, 0.1)
    wave, _ = soundfile.read(io.BytesIO(media.sound(long, 16_000).content))
    assert len(wave) < 1.1 * media.SECONDS * media.RATE


@pytest.mark.parametrize("wave", [np.zeros(0), np.array([0.0, np.nan]), np.zeros((2, 2))])
def test_what_is_no_sound_is_refused(wave):
    with pytest.raises(InputError, match="no sound"):
        media.sound(wave, 16_000)
