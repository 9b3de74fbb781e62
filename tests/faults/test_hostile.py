"""Files made to run something, to reach elsewhere, or to become large: refused, nothing happens."""

import _codecs
import ast
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from experiment.command.errors import InputError
from experiment.files import reading
from experiment.inputs import feature_file, targets
from experiment.run.cache import CachedScores
from experiment.run.settings import Settings
from imagenet import hub, transform
from imagenet import models as imagenet_models
from language import features as language_features
from language import models as language_models
from speech import data as speech_data
from speech import models as speech_models
from tests.conftest import ROOT

pytestmark = pytest.mark.promise("hostile")

ROWS = {"features": torch.ones(3, 2), "probs": torch.full((3, 2), 0.5),
        "labels": torch.zeros(3, dtype=torch.int64)}  # all that is needed
MARK = "was_here"  # a file that appears in the current folder if a payload runs


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class Built:
    """Pickled as an object that gets its state by a call."""

    def __reduce__(self):
        return dict, (), None, None, iter([("k", Call(os.system, f"touch {MARK}"))])


def chain():
    """os.system found step by step from names that look harmless."""
    return Call(list, Call(map, Call(getattr, Call(__import__, "os"), "system"),
                           [f"touch {MARK}"]))


INNER = pickle.dumps(Call(os.system, f"touch {MARK}"))
PAYLOADS = {
    "os.system": lambda: Call(os.system, f"touch {MARK}"),
    "subprocess": lambda: Call(subprocess.call, ["touch", MARK]),
    "eval": lambda: Call(eval, f"open({MARK!r}, 'w')"),
    "exec": lambda: Call(exec, f"open({MARK!r}, 'w')"),
    "reduce chain": chain,
    "in a dict's items": Built,
    "pickle in a pickle": lambda: Call(pickle.loads, INNER),
    "torch.load in a pickle": lambda: Call(torch.load, io.BytesIO(INNER)),
    "numpy object": lambda: np.array([Call(os.system, f"touch {MARK}")], dtype=object),
    "rows of a tensor": lambda: {"features": Call(os.system, f"touch {MARK}")},
    "writes a file": lambda: Call(open, MARK, "w"),
    "imports": lambda: Call(__import__, "this_module_is_not_there"),
}
READERS = {
    "store": reading.load,
    "feature file": lambda path: feature_file.read(path, labelled=True),
    "graph": lambda path: CachedScores(path, trusted=True).load(
        3, "", Settings("cos_p", 4, 0.03, 1, 250, "float32", "cpu")),
    "imagenet targets": partial(targets.read_targets, need_rows=True),
    "imagenet labels": targets.read_labels,
    "imagenet checkpoint": lambda path: imagenet_models.read_head(
        imagenet_models.find(path.parent / "resnet10t", None, path)),
    "language features": language_features.read,
    "language targets": targets.read_targets,
    "speech targets": targets.read_targets,
    "speech checkpoint": speech_models.load_published,
}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """In a folder of its own, which has not got the mark after the test."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / MARK).exists()


def test_the_payloads_do_run_where_pickle_is_not_restricted(tmp_path):
    for name in ("os.system", "subprocess", "exec", "in a dict's items", "pickle in a pickle",
                 "writes a file", "reduce chain"):
        pickle.loads(pickle.dumps(PAYLOADS[name]()))
        assert (tmp_path / MARK).exists(), name
        (tmp_path / MARK).unlink()


@pytest.mark.parametrize("reader", READERS)
def test_pickles_that_call_something(tmp_path, reader, record_property):
    path, cases = tmp_path / "hostile.pt", 0
    for name, payload in PAYLOADS.items():
        for zipped in (True, False):
            for protocol in (2, 4):
                try:
                    torch.save({"features": payload()}, path, pickle_protocol=protocol,
                               _use_new_zipfile_serialization=zipped)
                except TypeError:  # a stream cannot be pickled: then as a bare pickle
                    continue
                with pytest.raises(InputError, match="hostile.pt: not a readable tensor file"):
                    READERS[reader](path)
                cases += 1
        try:
            path.write_bytes(pickle.dumps(payload()))
        except TypeError:
            continue
        with pytest.raises(InputError, match="hostile.pt"):
            READERS[reader](path)
        assert not (tmp_path / MARK).exists(), name
        cases += 1
    record_property("cases", cases)


@pytest.mark.parametrize("load, config", [
    (lambda folder: language_models.load(folder, [folder]), "roberta"),
    (lambda folder: speech_models.load_folder(folder), "audio-spectrogram-transformer")])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_transformers_that_call_something(tmp_path, load, config, zipped):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"model_type": "{config}", "pad_token_id": 1}}')
    torch.save({"w": PAYLOADS["os.system"]()}, folder / "pytorch_model.bin",
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="model: (not a model|cannot be loaded)"):
        load(folder)


@pytest.mark.parametrize("config", [
    '{"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {}}',
    '{"model_type": "vit", "architectures": ["ViTForImageClassification"]}'])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_image_networks_that_call_something(tmp_path, config, zipped):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    torch.save({"w": PAYLOADS["os.system"]()}, folder / "pytorch_model.bin",
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="model: not an image network"):
        hub.load(folder)


@pytest.mark.parametrize("load", [
    hub.load, partial(transform._of_processor, grey=False),
    lambda folder: language_models.load(folder, [folder]),
    lambda folder: speech_models.load_folder(folder)])
def test_a_model_that_brings_its_own_code(tmp_path, load):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "own.Config", '
        '"AutoModelForSequenceClassification": "own.Model", '
        '"AutoModelForImageClassification": "own.Model"}}')
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "own.Processor"}}')
    (folder / "own.py").write_text(f"open({MARK!r}, 'w')\n")
    with pytest.raises(InputError, match="model"):
        load(folder)


def archive(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def npy(array, **changes):
    """A .npy file; changes to its header are said after the fact."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    content = stream.getvalue()
    for old, new in changes.items():
        content = content.replace(old.encode(), new)
    return content


def with_size(content, old, new):
    """The header says another shape; padded, so that it stays as long."""
    at = content.index(old)
    head, rest = content[:at], content[at + len(old):]
    spaces = len(new) - len(old)
    return head + new + rest.replace(b" " * spaces + b"\n", b"\n", 1)


def test_npz_with_objects_zips_and_paths(tmp_path):
    inner = archive(tmp_path / "inner.npz", {"features.npy": npy(np.ones(3))}).read_bytes()
    plain, outside = npy(np.ones((3, 2), np.float32)), tmp_path.parent / "was_here.npy"
    for name, entries, reason in [
            ("objects", {"features.npy": npy(np.array([PAYLOADS["os.system"]()]))}, "objects"),
            ("zip in zip", {"features.npy": inner}, "magic"),
            ("pickle", {"features.npy": INNER}, "magic"),
            ("upwards", {"../../was_here": plain}, "leads out of the file"),
            ("backslashes", {"..\\..\\was_here": plain}, "leads out of the file"),
            ("absolute", {str(outside): plain}, "leads out of the file")]:
        path = archive(tmp_path / "train.npz", entries)
        with pytest.raises(InputError, match=f"train.npz: not a readable .npz file.*{reason}"):
            feature_file.read(path, labelled=True)
        assert not list(tmp_path.glob("was_here*")), name
    assert not outside.exists()


@pytest.mark.parametrize("names", [["../../data.pkl"], ["/abs/data.pkl"], ["a/data.pkl"] * 2,
                                   ["a/../../b"]])
def test_torch_archives_with_paths_and_doubles(tmp_path, names):
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as file, pytest.warns() if len(names) > 1 else \
            pytest.MonkeyPatch.context():
        for name in names:
            file.writestr(name, INNER)
    with pytest.raises(InputError, match="a.pt: .*(leads out of the file|have one name)"):
        reading.load(tmp_path / "a.pt")


def torch_script(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torch_script_is_no_tensor_file(tmp_path):
    torch_script(tmp_path / "a.pt")
    with pytest.raises(InputError, match="a.pt: not a readable tensor file"):
        reading.load(tmp_path / "a.pt")


def claims_more(path):
    """An archive of torch whose pickle says 10^11 numbers where 3 are stored."""
    torch.save(torch.ones(3), path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    entries[pickled] = entries[pickled].replace(b"K\x03tq", b"\x8a\x05" + (10**11).to_bytes(
        5, "little") + b"tq")
    archive(path, entries)


def legacy_claims_more(path):
    torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(
        b"K\x03Nt", b"\x8a\x05" + (10**11).to_bytes(5, "little") + b"Nt"))


def repeated_view(path):
    torch.save({"features": torch.zeros(1).expand(10**12)}, path)


def numpy_view(path):
    torch.save({"features": Call(np.ndarray, (10**10,), "float32")}, path)


def many_lists(path):
    """A hundred levels, each twice the one below: 2^100 lists of a few bytes."""
    value = [1]
    for _ in range(100):
        value = [value, value]
    torch.save({"features": value}, path)


def one_list_in_many_places(path):
    """Two lists: whoever reads all entries reads 40,000,000."""
    torch.save({"features": [[1] * 20_000] * 2000}, path)


def bytearray_of(path):
    torch.save({"note": Call(bytearray, 2 * 10**9)}, path)


def legacy_bytearray_of(path):
    torch.save({"note": Call(bytearray, 2 * 10**9)}, path, _use_new_zipfile_serialization=False)


def doubled(path):
    """One byte, twice as long 28 times."""
    value = Call(_codecs.encode, "x", "latin1")
    for _ in range(28):
        value = Call(_codecs.encode, value, "hex")
    torch.save({"note": value}, path)


def same_text_encoded(path):
    """A thousand copies of one text of 1 MB."""
    text = "x" * 10**6
    torch.save({"note": [Call(_codecs.encode, text, "latin1") for _ in range(1000)]}, path)


def torch_texts_of_nothing(path):
    torch.save(ROWS | {"ids": torch.empty(2 * 10**7, 0)}, path)


def numbers_of_a_range(path):
    torch.save(ROWS | {"ids": range(10**9)}, path)


def numbers_of_no_range(path):
    torch.save(ROWS | {"labels": range(10**30)}, path)


class Kind:
    """Pickled as a kind of text of another size, which numpy gives it when it is read."""

    def __init__(self, size, flags=8):
        self.state = 3, "<", None, None, None, size, 4, flags

    def __reduce__(self):
        return np.dtype, ("U1", False, True), self.state


class Array(Call):
    """Pickled as an array of its bytes."""

    def __init__(self, shape, kind, content):
        super().__init__(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b")
        self.state = 1, shape, kind, False, content

    def __reduce__(self):
        return *self.reduced, self.state


def torch_text_without_content(path):
    torch.save(ROWS | {"ids": Call(np._core.multiarray.scalar, np.dtype("U200000000"))}, path)


def torch_texts_of_no_width(path):
    torch.save(ROWS | {"ids": Array((10**8,), Kind(0), b"")}, path)


def torch_texts_of_less_than_no_width(path):
    torch.save(ROWS | {"ids": Array((0,), Kind(-8), b"")}, path)


def torch_texts_as_objects(path):
    torch.save(ROWS | {"ids": Array((2,), Kind(8, 63), ["a", "b"])}, path)


def torch_letters_beyond_unicode(path):
    torch.save(ROWS | {"ids": Array((3,), Kind(4), b"\xff" * 12)}, path)


def legacy_bytes_of_any_length(path):
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"few")


def itself(path):
    value = []
    value.append(value)
    torch.save({"targets": value, "idx_chg": value}, path)


def npz_shape(path):
    content = npy(np.ones((3, 2), np.float32))
    archive(path, {"features.npy": with_size(content, b"(3, 2)", b"(100000000, 2000)")})


def npz_text(path):
    content = npy(np.array(["ab"]))
    archive(path, {"ids.npy": with_size(content, b"<U2", b"<U200000000")})


def npz_texts_of_nothing(path):
    rows = {f"{name}.npy": npy(value.numpy()) for name, value in ROWS.items()}
    archive(path, rows | {"ids.npy": npy(np.empty((2 * 10**7, 0)))})


def npz_texts_of_no_width(path):
    rows = {f"{name}.npy": npy(value.numpy()) for name, value in ROWS.items()}
    content = npy(np.array([], "U1"))
    archive(path, rows | {"ids.npy": with_size(
        content.replace(b"<U1", b"<U0"), b"(0,)", b"(100000000,)")})


def npz_deflated(path):
    archive(path, {"features.npy": npy(np.zeros(2**29, np.uint8))}, zipfile.ZIP_DEFLATED)


def npz_directory(path):
    """The directory of the archive says 1 TB for an entry of a few bytes."""
    archive(path, {"features.npy": npy(np.ones(3))})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 20:at + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    path.write_bytes(content)


def npy_shape(path):
    path.write_bytes(with_size(npy(np.ones(3, np.int64)), b"(3,)", b"(300000000000,)"))


def npy_nesting(path):
    """A header that Python's parser has no memory for, however much is free."""
    content = npy(np.ones(3, np.int64))
    path.write_bytes(content.replace(b"'shape': (3,)", b"'shape': " + b"-" * 8000 + b"3", 1))
    header = path.read_bytes()[10:-24]
    path.write_bytes(content[:8] + len(header).to_bytes(2, "little") + header + content[-24:])


def safetensors_shape(path):
    safetensors.torch.save_file({"features": torch.ones(3)}, path)
    content = path.read_bytes()[8:].replace(b"[3]", b"[300000000000]")
    content = content.replace(b"[0,12]", b"[0,1200000000000]")
    length = content.index(b"}}") + 2
    path.write_bytes(length.to_bytes(8, "little") + content)


def safetensors_texts_of_nothing(path):
    safetensors.torch.save_file(ROWS | {"ids": torch.empty(2 * 10**7, 0)}, path)


def safetensors_header(path):
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")


BOMBS = {
    "torch.pt": [claims_more, repeated_view, numpy_view, many_lists, itself, legacy_claims_more,
                 one_list_in_many_places, bytearray_of, legacy_bytearray_of, doubled,
                 same_text_encoded, torch_texts_of_nothing, numbers_of_a_range,
                 numbers_of_no_range, torch_text_without_content, torch_texts_of_no_width,
                 torch_texts_of_less_than_no_width, torch_texts_as_objects,
                 torch_letters_beyond_unicode, legacy_bytes_of_any_length],
    "file.npz": [npz_shape, npz_text, npz_deflated, npz_directory, npz_texts_of_nothing,
                 npz_texts_of_no_width],
    "file.npy": [npy_shape, npy_nesting],
    "file.safetensors": [safetensors_shape, safetensors_header, safetensors_texts_of_nothing],
}


@pytest.mark.parametrize("name, bomb", [(name, bomb) for name, bombs in BOMBS.items()
                                        for bomb in bombs])
def test_what_claims_more_than_the_file_holds(tmp_path, name, bomb):
    path = tmp_path / name
    bomb(path)
    read = targets.read_labels if path.suffix == ".npy" else \
        lambda path: feature_file.read(path, labelled=True)
    Path("/proc/self/clear_refs").write_text("5")  # else an earlier peak would hide this one
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=f"{name}: (not a readable|ids: expected a list of text)"):
        read(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 2**10, f"{grown} KiB"  # the smallest bomb would be 512 MiB


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_sound_that_claims_more(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.sin(np.arange(16_000) / 9), 16_000, "PCM_16")
    content = bytearray(path.read_bytes())
    if suffix == "flac":  # STREAMINFO: 36 bits of the number of samples
        content[21] |= 0x0f
        content[22:26] = b"\xff" * 4
    else:
        at = content.index(b"data")
        content[at + 4:at + 8] = struct.pack("<I", 2**30)
        content[4:8] = struct.pack("<I", 2**30 + 36)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"clip.{suffix}: .*cut"):
        speech_data.read_wave(path, 16_000)


def calls(tree):
    """Dotted name and keywords of every call in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value)
                                           for word in node.keywords}, node.lineno


FORBIDDEN = ("pickle.load", "pickle.loads", "pickle.Unpickler", "pandas.read_pickle",
             "pd.read_pickle", "joblib.load", "marshal.load", "marshal.loads", "shelve.open",
             "dill.load", "dill.loads", "cloudpickle.load", "torch.hub.load", "torch.jit.load",
             "torch.package.PackageImporter", "eval", "exec", "compile", "__import__",
             "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "tarfile.open",
             "shutil.unpack_archive", "np.fromfile", "numpy.fromfile", "runpy.run_path")
DEMANDED = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False"),
            "numpy.load": ("allow_pickle", "False")}


def test_no_load_is_unrestricted():
    """In the product, the benchmarks and the figures; ruff checks what it knows of it too."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                             "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    found, files = [], [name for name in listed.stdout.split() if not name.startswith("tests/")]
    for name in files:
        for called, words, line in calls(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            key, value = DEMANDED.get(called, (None, None))
            if called in FORBIDDEN or key and words.get(key) != value \
                    or words.get("trust_remote_code", "False") != "False" \
                    or called.startswith("Auto") and called.endswith(".from_pretrained") \
                    and not {"trust_remote_code", None} & words.keys() \
                    or words.get("shell") == "True":
                found.append(f"{name}:{line} {called}")
    assert not found
    assert len(files) > 60


def test_torch_is_new_enough_for_weights_only():
    """Before 2.6 a crafted file could run code in spite of weights_only (CVE-2025-32434)."""
    bounds = next(line for line in (ROOT / "requirements.txt").read_text().splitlines()
                  if line.startswith("torch>="))
    assert tuple(map(int, bounds.split(">=")[1].split(",")[0].split("."))) >= (2, 6)
    assert sys.version_info >= (3, 11)
