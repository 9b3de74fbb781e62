"""Extraction with a tiny convolutional network: what is written, and what stops or resumes it."""

import errno
import fcntl
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.extraction import Extraction
from imagenet import data, features, heads, models
from imagenet.transform import transform_of
from tests.imagenet_files import random_model, write_tree

PER_CLASS, CLASSES = 6, 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A network, its images, and how to extract them: 24 images in 8 batches."""
    root = tmp_path_factory.mktemp("world")
    write_tree(root, "val", PER_CLASS, CLASSES)
    torch.save(random_model("test_resnet", CLASSES).state_dict(), root / "weights.pth")
    extraction = Extraction(batch_size=3, workers=2, device="cpu", progress=False,
                            imagenet_dir=root)
    network = models.find(root / "test_resnet", None, root / "weights.pth")
    return network, data.read("val", extraction), extraction


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    network, images, extraction = world
    path = tmp_path_factory.mktemp("undisturbed") / "feat_val.pt"
    in_child(features.extract, network, images, path, extraction)
    return path.read_bytes()


def in_child(function, *arguments, after=None):
    """Run in a process of its own, killed after some seconds if it is still there."""
    def run():
        torch.set_num_threads(1)  # threads do not survive a fork
        function(*arguments)
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(after)
    child.kill()
    child.join()
    return child.exitcode


def every_batch(function):
    """The function with a record after each batch."""
    def run(*arguments):
        features.RECORD_SECONDS = 0
        function(*arguments)
    return run


def plain(network, images):
    """Features and logits image by image."""
    model = models.build(network)
    transform = transform_of(network, model)
    with torch.inference_mode():
        rows = [heads.features_and_logits(
            model, transform(Image.open(images.root / name).convert("RGB"))[None])
            for name in images.ids()]
    return tuple(torch.cat(parts) for parts in zip(*rows))


def test_features_in_order_with_accuracy_and_record(world, tmp_path, capsys):
    network, images, extraction = world
    path = tmp_path / "features/feat_val.pt"
    features.extract(network, images, path, extraction)
    expected, logits = plain(network, images)
    content = torch.load(path)  # as the published code reads it
    assert content.dtype == torch.float32
    torch.testing.assert_close(content, expected, atol=1e-5, rtol=1e-5)
    ranked = logits.argsort(1, descending=True)
    top1 = (ranked[:, 0] == torch.from_numpy(images.labels)).sum()
    assert f"24 images, top-1 {top1 / 24:.2%}, top-5 100.00%" in capsys.readouterr().out
    assert sorted(p.name for p in path.parent.iterdir()) == ["feat_val.json", "feat_val.pt"]
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["done"] == 24 and record["top1"] == top1 and record["unreadable"] == []
    assert record["source"]["sets"] == {"val": 24}


@pytest.mark.promise("kills")
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_the_file_is_the_same_to_the_byte(world, undisturbed, tmp_path, kills):
    network, images, extraction = world
    folder, path = tmp_path / "features", tmp_path / "features/feat_val.pt"
    started = time.monotonic()
    in_child(every_batch(features.extract), network, images, path, extraction)
    duration = time.monotonic() - started
    moments, left = random.Random(kills), []
    while len(left) < kills or not any(left):  # until a kill left some of the rows
        if path.is_file():  # done before the kill: begin again
            assert path.read_bytes() == undisturbed
            shutil.rmtree(folder)
        status = in_child(every_batch(features.extract), network, images, path, extraction,
                          after=moments.uniform(0.2, 1) * duration)
        if status == -signal.SIGKILL:
            record = features.record_of(path)
            left.append(0 if record is None else record.done)
    assert path.is_file() or in_child(features.extract, network, images, path, extraction) == 0
    assert path.read_bytes() == undisturbed


# The first nine renames are of records, the tenth is of the features; the last removal is that of
# the rows, after those of the temporary files.
@pytest.mark.promise("kills")
@pytest.mark.parametrize("call, number", [("replace", 4), ("replace", 9), ("unlink", 11)])
@pytest.mark.parametrize("before", [True, False])
def test_killed_around_a_write(world, undisturbed, tmp_path, call, number, before):
    network, images, extraction = world
    path = tmp_path / "feat_val.pt"
    original, calls = getattr(os, call), iter(range(100))

    def killing(*arguments, **options):
        this = next(calls) == number
        if this and before:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments, **options)
        if this:
            os.kill(os.getpid(), signal.SIGKILL)

    def extract():
        setattr(os, call, killing)
        every_batch(features.extract)(network, images, path, extraction)

    assert in_child(extract) == -signal.SIGKILL
    assert path.is_file() == (call == "unlink" or (number == 9 and not before))
    assert path.is_file() or in_child(features.extract, network, images, path, extraction) == 0
    assert path.read_bytes() == undisturbed


@pytest.mark.promise("sharing")
def test_two_processes_write_one_file(world, undisturbed, tmp_path):
    network, images, extraction = world
    save = writing.save

    def slowly(value, path):
        time.sleep(0.5)
        save(value, path)
        time.sleep(0.5)

    def extract():
        torch.set_num_threads(1)
        writing.save = slowly
        every_batch(features.extract)(network, images, tmp_path / "feat_val.pt", extraction)

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=extract) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "feat_val.pt").read_bytes() == undisturbed
    assert sorted(file.name for file in tmp_path.iterdir()) == ["feat_val.json", "feat_val.pt"]


def stopped_after(batches, monkeypatch):
    """Interrupt the extraction once so many batches were computed; returns how to undo it."""
    computed = features._computed

    def some(*arguments):
        for number, batch in enumerate(computed(*arguments)):
            if number == batches:
                raise KeyboardInterrupt
            yield batch
    patched = pytest.MonkeyPatch()
    patched.setattr(features, "_computed", some)
    patched.setattr(features, "RECORD_SECONDS", 0)
    return patched


def test_goes_on_with_another_batch_size_but_not_with_other_weights(world, tmp_path, monkeypatch,
                                                                    capsys):
    network, images, extraction = world
    path = tmp_path / "feat_val.pt"
    patched = stopped_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        features.extract(network, images, path, extraction)
    torch.save(random_model("test_resnet", CLASSES, seed=1).state_dict(), tmp_path / "other.pth")
    other = replace(network, weights=tmp_path / "other.pth")
    with pytest.raises(KeyboardInterrupt):
        features.extract(other, images, path, extraction)
    assert "begun with another model or other images; starting over" in capsys.readouterr().out
    patched.undo()
    features.extract(other, images, path, replace(extraction, batch_size=4))
    assert "resuming after 9 images" in capsys.readouterr().out
    torch.testing.assert_close(torch.load(path), plain(other, images)[0], atol=1e-5, rtol=1e-5)


def edit(path, **changes):
    record = path.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.promise("files")
@pytest.mark.parametrize("damage", [
    lambda path: path.with_suffix(".rows").write_bytes(b"short"),
    lambda path: path.with_suffix(".json").write_text('{"done": '),
    lambda path: path.with_suffix(".json").write_text('{"done": 3}'),
    lambda path: path.with_suffix(".json").unlink(),
    lambda path: path.with_suffix(".json").write_text("[" * 100_000),
    lambda path: edit(path, done="3"),
    lambda path: edit(path, source=[]),
    lambda path: flip(path.with_suffix(".rows"), 50),
])
def test_a_damaged_start_is_begun_anew(world, undisturbed, tmp_path, monkeypatch, damage):
    network, images, extraction = world
    path = tmp_path / "feat_val.pt"
    patched = stopped_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        features.extract(network, images, path, extraction)
    patched.undo()
    damage(path)
    assert in_child(features.extract, network, images, path, extraction) == 0
    assert path.read_bytes() == undisturbed


@pytest.mark.promise("memory")
@pytest.mark.parametrize("allocate", [
    lambda: torch.empty(2**50), lambda: raise_(torch.OutOfMemoryError("CUDA out of memory"))])
def test_out_of_memory_halves_what_is_computed_at_a_time(world, tmp_path, monkeypatch, capsys,
                                                         allocate):
    network, images, extraction = world
    compute, sizes = heads.features_and_logits, []

    def small_memory(model, block):
        sizes.append(len(block))
        if len(block) > 2:
            allocate()
        return compute(model, block)
    monkeypatch.setattr(heads, "features_and_logits", small_memory)
    features.extract(network, images, tmp_path / "feat_val.pt", replace(extraction, batch_size=8))
    assert sizes == [8, 4] + [2] * 12  # twice too many, then never again
    assert "out of memory: 2 images at a time" in capsys.readouterr().out
    torch.testing.assert_close(torch.load(tmp_path / "feat_val.pt"), plain(network, images)[0],
                               atol=1e-5, rtol=1e-5)


def raise_(error):
    raise error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_what_cannot_be_helped_is_raised(world, tmp_path, monkeypatch, error):
    network, images, extraction = world

    def fail(model, block):
        raise error("no")
    monkeypatch.setattr(heads, "features_and_logits", fail)
    with pytest.raises(error, match="no"):
        features.extract(network, images, tmp_path / "feat_val.pt", extraction)
    assert not (tmp_path / "feat_val.pt").exists()


def test_unreadable_images(world, tmp_path, capsys):
    network, _, extraction = world
    write_tree(tmp_path, "val", PER_CLASS, CLASSES)
    extraction = replace(extraction, imagenet_dir=tmp_path)
    images = data.read("val", extraction)
    broken = [0, 3, 4, 5, 23]  # one batch holds nothing else
    for row in broken:
        (images.root / images.ids()[row]).write_bytes(b"\xff\xd8 cut")
    path = tmp_path / "feat_val.pt"
    with pytest.raises(InputError, match=f"{images.root / images.ids()[0]}: not a readable image "
                                         r"\(.*\); replace the file, or give --skip_corrupt"):
        features.extract(network, images, path, extraction)
    assert not path.exists()
    features.extract(network, images, path, replace(extraction, skip_corrupt=True))
    assert (~torch.load(path).any(1)).nonzero()[:, 0].tolist() == broken
    assert "5 could not be read, their rows are zeros (named in feat_val.json)" \
        in capsys.readouterr().out
    named = features.record_of(path).unreadable
    assert [images.ids()[row] in line for row, line in zip(broken, named)] == [True] * 5


def test_no_accuracy_where_folders_are_not_the_classes(world, tmp_path, capsys):
    network, images, extraction = world
    features.extract(network, replace(images, folders=CLASSES + 1), tmp_path / "feat_val.pt",
                     extraction)
    assert "24 images\n" in capsys.readouterr().out


def test_full_disk_is_seen_before_the_work(world, tmp_path, monkeypatch):
    network, images, extraction = world
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(InputError, match=r"feat_val.pt: 0.0 GB are needed on its disk"):
        features.extract(network, images, tmp_path / "feat_val.pt", extraction)


def test_missing_device(world, tmp_path):
    network, images, extraction = world
    with pytest.raises(InputError, match="--device cuda:99"):
        features.extract(network, images, tmp_path / "feat_val.pt",
                         replace(extraction, device="cuda:99"))


def test_a_file_system_without_locks(world, undisturbed, tmp_path, monkeypatch):
    network, images, extraction = world

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(fcntl, "lockf", refuse)
    path = tmp_path / "feat_val.pt"
    assert in_child(features.extract, network, images, path, extraction) == 0
    assert path.read_bytes() == undisturbed


def test_rows_that_a_kill_left_are_removed_unless_they_are_in_use(tmp_path):
    path, rows = tmp_path / "feat_val.pt", tmp_path / "feat_val.rows"
    rows.write_bytes(b"left")
    with features._exclusive(rows):
        assert in_child(features.tidy, path) == 0 and rows.exists()
    features.tidy(path)
    assert not rows.exists()
    features.tidy(path)  # none there


def test_who_waited_for_the_lock_does_not_write_into_a_removed_file(tmp_path, monkeypatch):
    rows, lock = tmp_path / "feat_val.rows", fcntl.lockf
    removals = iter([True, False])

    def lock_late(*arguments):
        lock(*arguments)
        if next(removals):
            rows.unlink()
    monkeypatch.setattr(fcntl, "lockf", lock_late)
    with features._exclusive(rows) as file:
        file.write(b"rows")
    assert rows.read_bytes() == b"rows"
