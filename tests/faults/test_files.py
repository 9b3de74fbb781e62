"""Every kind of file that is read, published or our own, damaged in every way."""

import json
import random
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch

from experiment.command.errors import InputError
from experiment.files import reading, writing
from experiment.inputs import feature_file, targets
from experiment.inputs.samples import Samples
from experiment.run.cache import CachedScores, made_from
from experiment.run.settings import Settings
from language import features as language_features

pytestmark = pytest.mark.promise("files")

N, D, C = 12, 5, 3
GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(N, D, generator=GENERATOR)
LOGITS = torch.randn(N, C, generator=GENERATOR)
LABELS = torch.arange(N) % C
ROWS = {"features": FEATURES, "logits": LOGITS, "labels": LABELS,
        "is_noisy": LABELS == 1, "ids": [f"{row}.jpg" for row in range(N)]}
SETTINGS = Settings("cos_p", 4, 0.03, 1, 250, "float32", "cpu")


def write_npz(path, compressed=False):
    save = np.savez_compressed if compressed else np.savez
    save(path, **{name: np.asarray(value) for name, value in ROWS.items()})


def write_safetensors(path):
    """Without text: that of the metadata has no checksum."""
    safetensors.torch.save_file({name: value for name, value in ROWS.items() if name != "ids"},
                                path)


def write_graph(path):
    CachedScores(path).save(torch.arange(N) / 7, "data", SETTINGS)


def flat(value):
    """All numbers and texts in a value, in a form that == compares."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), tuple(value.shape), value.flatten().tolist()]
    if isinstance(value, dict):
        return {key: flat(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(entry) for entry in value]
    if isinstance(value, Samples):
        return flat(vars(value) | {"_digest": value.fingerprint})
    return flat(vars(value)) if hasattr(value, "__dict__") else value


def read_samples(path):
    return feature_file.read(path, labelled=True)


TARGETS = {"idx_clean": torch.arange(N), "targets": LABELS, "idx_chg": torch.tensor([1, 4])}
CHECKPOINT = {"model": {"head.weight": torch.ones(C, D)}, "epoch": 49, "scaler": {},
              "args": Namespace(lr=1e-3), "optimizer": {"state": {0: {"step": torch.tensor(3.)}}}}
# name of the file -> how it is written and read. The first half is as published.
KINDS = {
    "feat_train_49.pt": (lambda path: torch.save(FEATURES, path), reading.load),
    "target.pt": (lambda path: torch.save(TARGETS, path),
                  partial(targets.read_targets, need_rows=True)),
    "target0.1_large_4.pt": (lambda path: torch.save(TARGETS | {"targets": LABELS.tolist()}, path),
                             targets.read_targets),
    "target_noisy0.1.pt": (lambda path: torch.save(TARGETS, path), targets.read_targets),
    "feat_train.pt": (lambda path: torch.save({"feat_cls": FEATURES, "logit": LOGITS}, path),
                      language_features.read),
    "checkpoint-49.pth": (lambda path: torch.save(CHECKPOINT, path), reading.load),
    "graph_cos_p_pow4.pt": (write_graph, lambda path: CachedScores(path, trusted=True).load(
        N, "data", SETTINGS)),
    "train.pt": (lambda path: torch.save(ROWS, path), read_samples),
    "train.npz": (write_npz, read_samples),
    "packed.npz": (lambda path: write_npz(path, compressed=True), read_samples),
    "train.safetensors": (write_safetensors, read_samples),
    "labels.npy": (lambda path: np.save(path, LABELS.numpy()), targets.read_labels),
    "labels.txt": (lambda path: np.savetxt(path, LABELS.numpy(), "%d"),
                   targets.read_labels),
    "feat_val.json": (lambda path: writing.save_json({"done": 24, "sets": [1, 2]}, path),
                      reading.load_json),
}
# These formats carry no checksum: flips are tried in so many bytes at their head only.
HEADS = {"train.safetensors": lambda content: 8 + int.from_bytes(content[:8], "little"),
         "labels.npy": lambda content: 128, "labels.txt": lambda content: 0,
         "feat_val.json": lambda content: 0}
# Nor do these have a length: what is cut off a line of numbers can only be missed by its count.
LINES = ("labels.txt",)


def damaged(path, read, content, bytes_, what):
    """Refused by name in one line, or read as if nothing were."""
    path.write_bytes(bytes_)
    try:
        value = flat(read(path))
    except InputError as error:
        assert path.name in str(error) and "\n" not in str(error), what
        return True
    if path.suffix == ".safetensors":  # a flipped name: what it named is missing, not wrong
        content = {key: content[key] for key in content if value[key] is not None}
        value = {key: value[key] for key in content}
    assert value == content, what
    return False


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    write, read = KINDS[request.param]
    path = tmp_path / request.param
    write(path)
    return path, read, flat(read(path)), path.read_bytes()


def test_cut_anywhere(kind, record_property, fault_seed):
    path, read, content, whole = kind
    if path.name in LINES:
        pytest.skip("a text file of lines does not say how many there are")
    lengths = {0, 1, len(whole) // 2, len(whole) - 2,
               *random.Random(fault_seed).sample(range(len(whole) - 1), 30)}
    for length in lengths:
        assert damaged(path, read, content, whole[:length], f"cut at {length}")
    record_property("cases", len(lengths))


def test_a_flipped_bit_anywhere(kind, record_property, fault_seed):
    path, read, content, whole = kind
    end = HEADS.get(path.name, len)(whole)
    if end == 0:
        pytest.skip("a text file without a checksum: any byte may be what was meant")
    chance = random.Random(fault_seed)
    places = [(chance.randrange(end), chance.randrange(8)) for _ in range(200)]
    for at, bit in places:
        bytes_ = bytearray(whole)
        bytes_[at] ^= 1 << bit
        damaged(path, read, content, bytes(bytes_), f"bit {bit} of byte {at}")
    record_property("cases", len(places))


@pytest.mark.parametrize("other", [
    b"\x00" * 4096, b"hello\n", b"<!DOCTYPE html><html>Quota exceeded</html>", b"PK\x03\x04",
    b"\x93NUMPY\x01\x00v\x00{", b"\x80\x02}q\x00.", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"[" * 10**5])
def test_something_else_under_its_name(kind, other):
    path, read, content, _ = kind
    assert damaged(path, read, content, other, other[:10])


def test_another_of_our_files_under_its_name(kind, tmp_path, record_property):
    """No file of one kind passes for another, except where one is a form of the other."""
    path, read, content, _ = kind
    if path.name in ("checkpoint-49.pth", "feat_train_49.pt"):
        pytest.skip("may hold anything: what it holds is checked by whom it is for")
    strangers = [other for other in KINDS if other != path.name
                 and not ("target" in path.name and "target" in other)
                 and not {path.name, other} <= {"train.npz", "packed.npz"}]
    for other in strangers:
        write, _ = KINDS[other]
        stranger = tmp_path / "stranger" / other
        stranger.parent.mkdir(exist_ok=True)
        write(stranger)
        assert damaged(path, read, content, stranger.read_bytes(), other)
    record_property("cases", len(strangers))


@pytest.mark.parametrize("name, value, message", [
    ("features", FEATURES.to(torch.float8_e4m3fn), "features: expected floats"),
    ("features", FEATURES.to(torch.complex64), "features: expected floats"),
    ("features", FEATURES.T.contiguous(), "probs: expected shape"),
    ("features", FEATURES.to_sparse(), "not stored in full"),
    ("features", torch.zeros(1).expand(10**12), "claims 4,000,000,000,000 bytes"),
    ("features", torch.empty(10**6, 10**6, device="meta"), "not a readable tensor file"),
    ("labels", LABELS + 0.5, "labels: expected"),
    ("labels", torch.empty(N, dtype=torch.bits8), "holds a tensor of torch.bits8"),
    ("labels", LABELS - 1, "labels: expected 0 to 2, got -1"),
    ("is_noisy", 2 * torch.ones(N), "is_noisy: expected True or False"),
    ("logits", LOGITS.T.contiguous(), "logits: expected shape|probs: expected shape"),
])
def test_wrong_kinds_and_orders(tmp_path, name, value, message):
    torch.save(ROWS | {name: value}, tmp_path / "train.pt")
    with pytest.raises(InputError, match=f"train.pt.*({message})"):
        read_samples(tmp_path / "train.pt")


@pytest.mark.parametrize("name, value, same", [
    ("features", (FEATURES * 9).long(), (FEATURES * 9).long().float()),
    ("labels", LABELS.float(), LABELS), ("labels", LABELS[:, None], LABELS),
    ("is_noisy", torch.ones(N), torch.ones(N, dtype=torch.bool))])
def test_other_forms_are_read_as_what_they_mean(tmp_path, name, value, same):
    torch.save(ROWS | {name: value}, tmp_path / "train.pt")
    assert torch.equal(getattr(read_samples(tmp_path / "train.pt"), name), same)


def test_the_other_byte_order_is_refused_or_read_right(tmp_path):
    np.savez(tmp_path / "train.npz", features=FEATURES.numpy().astype(">f4"),
             logits=np.asfortranarray(LOGITS.numpy()), labels=LABELS.numpy())
    found = read_samples(tmp_path / "train.npz")
    assert torch.equal(found.features, FEATURES) and torch.equal(found.logits, LOGITS)


def test_a_sidecar_that_is_cut_or_flipped_matches_nothing(tmp_path, record_property, fault_seed):
    path = tmp_path / "graph_cos_p_pow4.pt"
    write_graph(path)
    graph, chance = CachedScores(path), random.Random(fault_seed)
    whole = graph.sidecar.read_bytes()
    assert graph.load(N, "data", SETTINGS) is not None
    for length in range(0, len(whole) - 2, 7):
        graph.sidecar.write_bytes(whole[:length])
        assert graph.load(N, "data", SETTINGS) is None
    for _ in range(100):
        bytes_ = bytearray(whole)
        bytes_[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        graph.sidecar.write_bytes(bytes_)
        kept = graph.load(N, "data", SETTINGS)
        assert kept is None or json.loads(bytes_) == json.loads(whole)
    for text in (b"", b"[" * 10**5, b"{}", b"[]", b"3", b"\xff", json.dumps(
            made_from("other data", SETTINGS)).encode()):
        graph.sidecar.write_bytes(text)
        assert graph.load(N, "data", SETTINGS) is None
    record_property("cases", 107 + len(whole) // 7)
