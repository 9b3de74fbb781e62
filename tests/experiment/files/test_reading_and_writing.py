import argparse
import collections
import datetime
import errno
import os
import pathlib
import re
import types

import numpy as np
import pytest
import safetensors.torch
import torch

from experiment.command.errors import InputError
from experiment.files import reading, writing

pytestmark = pytest.mark.promise("files")


def test_published_checkpoint_round_trip(tmp_path):
    path = tmp_path / "deep/checkpoint-49.pth"
    saved = {"model": {"head.weight": torch.eye(3)}, "epoch": 49,
             "args": argparse.Namespace(lr=0.1)}
    writing.save(saved, path)
    loaded = reading.load(path)
    assert loaded["args"].lr == 0.1 and torch.equal(loaded["model"]["head.weight"], torch.eye(3))
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint-49.pth"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64", "complex64", ">i4", "U3", "S3"])
def test_numpy_arrays_and_scalars_load(tmp_path, dtype, zipped):
    rows = np.ones(3, dtype)
    torch.save({"rows": rows, "none": rows[:0], "first": rows[0]}, tmp_path / "a.pt",
               _use_new_zipfile_serialization=zipped)
    loaded = reading.load(tmp_path / "a.pt")
    assert loaded["rows"].dtype.kind == rows.dtype.kind and loaded["rows"].tolist() == rows.tolist()
    assert loaded["none"].shape == (0,) and loaded["first"] == rows[0]


def test_letters_of_all_kinds_load(tmp_path):
    texts = np.array(["", "für", "日本", "🙂"])
    torch.save(texts, tmp_path / "a.pt")
    assert reading.load(tmp_path / "a.pt").tolist() == texts.tolist()


def test_ranges_spaces_and_paths_load(tmp_path):
    """A path, as of MAE's launcher, is its parts: no object that reaches the disk."""
    torch.save({"rows": range(2, 9, 3), "args": argparse.Namespace(
        to=pathlib.PosixPath("/a/b"), windows=pathlib.PureWindowsPath("c:/x"),
        inner=types.SimpleNamespace(lr=0.1))}, tmp_path / "a.pt")
    loaded = reading.load(tmp_path / "a.pt")
    assert loaded["rows"] == range(2, 9, 3) and loaded["args"].inner.lr == 0.1
    assert loaded["args"].to == ("/", "a", "b") and loaded["args"].windows[-1] == "x"


@pytest.mark.parametrize("value, kind", [
    (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    (datetime.date(2020, 1, 1), "datetime.date"),
    (collections.defaultdict(list), "collections.defaultdict"),
    (np.array([None]), "numpy.dtypes.ObjectDType"),
    (np.ones(2, "i4,f4"), "numpy.dtypes.VoidDType"),
    (np.datetime64(1, "s"), "numpy.dtypes.DateTime64DType"),
    (np.ma.ones(2), "numpy.ma.core._mareconstruct"), (pytest.approx(3), "ApproxScalar")])
def test_what_is_refused_is_named(tmp_path, value, kind):
    """Not in torch's own words, which say in colours how to switch the restriction off."""
    torch.save({"rows": value}, tmp_path / "a.pt")
    message = (rf"a.pt: .*\(holds \S*{kind}, which is not read as it could run code; save it "
               r"again .*\)$")
    with pytest.raises(InputError, match=message) as error:
        reading.load(tmp_path / "a.pt")
    assert not re.search(r"\x1b|weights_only|safe_globals|trust|\n", str(error.value))


def test_another_protocol_is_named(tmp_path):
    torch.save(np.ones(2), tmp_path / "a.pt", pickle_protocol=4)
    with pytest.raises(InputError, match="pickled by another protocol than torch.save's; save it"):
        reading.load(tmp_path / "a.pt")


@pytest.mark.parametrize("name, load", [
    ("a.pt", reading.load), ("a.npz", reading.load_npz), ("a.npy", reading.load_npy),
    ("a.safetensors", reading.load_safetensors)])
@pytest.mark.parametrize("content, kind", [
    (b"<!DOCTYPE html>\n<html>", "a web page"), (b"\n<HTML lang='en'>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"\x1f\x8b\x08\0", "compressed by gzip"),
    (b'{"error": "not found"}', "a server's message")])
def test_files_of_another_kind_are_named(tmp_path, name, load, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: not a readable .*\({kind}"):
        load(tmp_path / name)


def test_safetensors_under_the_name_of_another_kind(tmp_path):
    (tmp_path / "a.pt").write_bytes(safetensors.torch.save({"a": torch.ones(3)}))
    with pytest.raises(InputError, match=r"a.pt: .*a safetensors file; let its name end in"):
        reading.load(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_bytes_and_numpy_numbers_load(tmp_path, zipped):
    """torch writes them as calls, of the kind that a hostile file may not make."""
    rows = {"bytes": [b"a\xff" * 300, b"b", b"b"], "numbers": [np.float64(3), np.float64(3)]}
    torch.save(rows, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert reading.load(tmp_path / "a.pt") == rows


def test_old_format_without_memory_map_loads(tmp_path):
    torch.save(torch.arange(3), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert reading.load(tmp_path / "a.pt").tolist() == [0, 1, 2]


def test_a_view_is_saved_without_what_lies_behind_it(tmp_path):
    writing.save(torch.zeros(100_000)[:2], tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 10_000


NOT_OF_THE_FILE = [
    MemoryError("none left"), OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EIO, "Input/output error"),
    RuntimeError("unable to mmap 40 bytes from file <a.pt>: Cannot allocate memory (12)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes.")]


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "a.npy", "a.safetensors"])
@pytest.mark.parametrize("error", NOT_OF_THE_FILE, ids=str)
def test_a_file_is_not_blamed_for_memory_and_disk(tmp_path, monkeypatch, name, error):
    path = tmp_path / name
    torch.save(torch.ones(3), tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    np.save(tmp_path / "a.npy", np.ones(3))
    safetensors.torch.save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")

    def fail(*arguments, **options):
        raise error
    for place in ("torch.load", "numpy.load", "safetensors.safe_open"):
        monkeypatch.setattr(place, fail)
    load = {".pt": reading.load, ".npz": reading.load_npz, ".npy": reading.load_npy,
            ".safetensors": reading.load_safetensors}[path.suffix]
    with pytest.raises(type(error), match=re.escape(str(error))) as raised:
        load(path)
    assert not isinstance(error, OSError) or error.errno != errno.EIO or \
        raised.value.filename == str(path)


def test_a_file_is_blamed_for_asking_for_more_than_it_holds(tmp_path, monkeypatch):
    torch.save(torch.ones(3), tmp_path / "a.pt")
    error = RuntimeError("can't allocate memory: you tried to allocate 400000000000 bytes.")
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: raise_(error))
    with pytest.raises(InputError, match="a.pt: not a readable tensor file"):
        reading.load(tmp_path / "a.pt")


def raise_(error):
    raise error


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


@pytest.mark.parametrize("content", ["hostile", "text", "cut", "empty"])
def test_unreadable_files_are_refused_by_name(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "feat.pt"
    torch.save({"rows": Hostile() if content == "hostile" else torch.ones(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes({"hostile": whole, "text": b"hi", "cut": whole[:500], "empty": b""}[content])
    with pytest.raises(InputError, match="feat.pt: not a readable tensor file") as error:
        reading.load(path)
    assert "\n" not in str(error.value) and not (tmp_path / "hostile").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path, legacy):
    path = tmp_path / "feat.pt"
    torch.save({"rows": torch.ones(3), "epoch": 4}, path,
               _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 1 if legacy else 17):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="feat.pt: not a readable tensor file"):
            reading.load(path)


@pytest.mark.parametrize("text", [b"train", b"error", b"<!DOCTYPE html>", b"0", b"(", b"\x80\x02."])
def test_text_is_refused(tmp_path, text):
    (tmp_path / "feat.pt").write_bytes(text)
    with pytest.raises(InputError, match="feat.pt: not a readable tensor file"):
        reading.load(tmp_path / "feat.pt")


def test_missing_file():
    with pytest.raises(InputError, match="nowhere.pt: no such file"):
        reading.load(reading.Path("nowhere.pt"))


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "metrics.json"
    writing.save_json({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        writing.save_json({"a": float("nan")}, path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/report: cannot be written to"):
        writing.check_writable(tmp_path / "file/report")
    with pytest.raises(InputError, match="file/a.json: cannot be written"):
        writing.save_json({}, tmp_path / "file/a.json")


def test_remembered_is_made_once_and_anew_for_another_origin(tmp_path):
    path, made = tmp_path / "new/features.pt", []

    def make():
        made.append(len(made))
        return {"rows": torch.full((2,), made[-1])}
    assert writing.cached(path, {"of": "a"}, make)["rows"].tolist() == [0, 0]
    assert writing.cached(path, {"of": "a"}, make)["rows"].tolist() == [0, 0]
    assert writing.cached(path, {"of": "b"}, make)["rows"].tolist() == [1, 1]
    path.with_suffix(".json").write_text("no json")
    assert writing.cached(path, {"of": "b"}, make)["rows"].tolist() == [2, 2]


def test_remembered_keeps_the_earlier_where_making_fails(tmp_path):
    path = tmp_path / "features.pt"
    writing.cached(path, {"of": "a"}, lambda: 1)

    def fail():
        raise InputError("no")
    with pytest.raises(InputError):
        writing.cached(path, {"of": "b"}, fail)
    assert writing.cached(path, {"of": "a"}, fail) == 1


def test_a_published_file_fits_any_origin_and_unknown_facts_fit_any_record(tmp_path):
    path = tmp_path / "features.pt"
    assert not writing.is_from(path, {"of": "a"}, published=True)
    writing.save(1, path)
    assert writing.is_from(path, {"of": "a"}, published=True)
    assert not writing.is_from(path, {"of": "a"})
    writing.save_json({"of": "a", "texts": "t"}, path.with_suffix(".json"))
    for origin in ({"of": "a"}, {"of": "a", "texts": None}, {}):
        assert writing.is_from(path, origin, published=True)
    assert not writing.is_from(path, {"of": "a", "texts": "u"}, published=True)


def test_names_tell_places_apart():
    assert writing.distinct("net", "/a", None) == writing.distinct("net", "/a", None)
    assert len({writing.distinct("net", *places) for places in (["/a"], ["/b"], ["/a", "/b"])}) == 3
