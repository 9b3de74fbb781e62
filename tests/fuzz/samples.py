"""Small whole files of every kind that users bring, and how the scripts read each."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas
import safetensors.torch
import soundfile
import torch
from PIL import Image

from experiment.command.errors import InputError
from experiment.inputs import feature_file, media
from experiment.inputs.own_data import files_of_table
from imagenet import checkpoints
from imagenet.data import Images, ImageSet
from language import own as own_texts
from speech import data as sounds

N, D, C = 12, 5, 3
DRAW = np.random.default_rng(0)
ROWS = {"features": DRAW.normal(size=(N, D)).astype("float32"),
        "logits": DRAW.normal(size=(N, C)).astype("float32"), "labels": np.arange(N) % C,
        "ids": np.array([f"{row}.jpg" for row in range(N)])}
TABLE = pandas.DataFrame({
    "path": [f"in/{row}.jpg" for row in range(N)],
    "text": [f'a "film", {row}\tor\nso é' for row in range(N)],
    "label": [f"class {row % C}" for row in range(N)], "number": np.arange(N) / 4})


def _torch(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _npz(save):
    file = io.BytesIO()
    save(file, **ROWS)
    return file.getvalue()


def _picture(kind, mode, **options):
    file = io.BytesIO()
    pixels = DRAW.integers(0, 256, (24, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(file, kind, **options)
    return file.getvalue()


def _sound(kind, **options):
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(8000) / 9) / 2, 16_000, format=kind, **options)
    return file.getvalue()


def _parquet():
    file = io.BytesIO()
    TABLE.to_parquet(file, index=False)
    return file.getvalue()


def whole() -> dict[str, list[bytes]]:
    """Ending -> the contents of whole files."""
    tensors = {name: torch.from_numpy(value) for name, value in ROWS.items() if name != "ids"}
    mixed = tensors | {"ids": [f"{row}.jpg" for row in range(N)], "numpy": ROWS["ids"],
                       "state_dict": {"fc.weight": torch.ones(3, 2), "epoch": 3}}
    return {
        ".npz": [_npz(np.savez), _npz(np.savez_compressed)],
        ".pt": [_torch(mixed), _torch(mixed, _use_new_zipfile_serialization=False)],
        ".safetensors": [safetensors.torch.save(tensors, {"ids": json.dumps(mixed["ids"])})],
        ".csv": [TABLE.to_csv(index=False).encode(), TABLE.to_csv(
            index=False, sep=";", quoting=csv.QUOTE_ALL).encode("utf-16")],
        ".tsv": [TABLE.to_csv(index=False, sep="\t").encode()],
        ".jsonl": [TABLE.to_json(orient="records", lines=True).encode()],
        ".json": [TABLE.to_json(orient=orient).encode()
                  for orient in ("records", "columns", "split", "table", "index")],
        ".parquet": [_parquet()],
        ".png": [_picture("PNG", mode) for mode in ("RGB", "RGBA", "P", "L")],
        ".jpg": [_picture("JPEG", "RGB", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0"
                                              b"\6\0\0\0\0\0\0\0"),
                 _picture("JPEG", "L", progressive=True)],
        ".wav": [_sound("WAV"), _sound("WAV", subtype="FLOAT"), _sound("WAVEX")],
        ".mp3": [_sound("MP3")],
    }


def read(path: Path, number: int) -> None:
    """As a script does; `number` chooses where several do."""
    ending = path.suffix
    if ending in (".npz", ".pt", ".safetensors"):
        if ending != ".npz" and number % 2:
            checkpoints.read(path)
        else:
            feature_file.read(path, labelled=True)
    elif ending in (".png", ".jpg"):
        media.image_file(path) if number % 2 else _row(path)
    elif ending in (".wav", ".mp3"):
        sounds.read_wave(path, 16_000)
        sounds.mixing_notes([path])
    elif number % 2:
        own_texts.read(path, None, None)
    else:
        files_of_table(path)


def _row(path: Path) -> None:
    """Raises what a worker process returns as text."""
    listed = ImageSet(path.parent, np.array([path.name.encode()]), None, 0, {"images": 1})
    _, problem = Images(listed, lambda image: torch.from_numpy(np.array(image)))[0]
    if problem:
        raise InputError(problem)


def check(path: Path) -> None:
    """A whole file is read by all readers, so that mutations reach what lies behind the first
    check."""
    (path.parent / "in").mkdir(exist_ok=True)
    for name in TABLE["path"]:
        (path.parent / name).touch()
    for number in range(2):
        read(path, number)
