"""The real gdown against a local server that plays Drive: arrivals, refusals, resumption."""

import fcntl
import io
import json
import os
import resource
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import gdown
import pytest
import requests
import torch
from tqdm import tqdm

from experiment.command.errors import InputError, Unavailable
from experiment.files import drive, reading
from experiment.files.drive import Published
from tests.drive_server import LARGE, SMALL, Adapter, DriveServer, Hosted, drive_id, tensor_file

FOLDER_ID = "F" * 33
NEEDED = ("checkpoint-49.pth", "features/feat_train_49.pt")
QUOTA = "Too many users have viewed or downloaded this file recently"


@pytest.fixture
def site(monkeypatch):
    """A folder of two needed files and one more; every session is diverted to it."""
    files = {NEEDED[0]: Hosted(SMALL), NEEDED[1]: Hosted(LARGE, confirm=True),
             "config.json": Hosted(b"{}")}
    with DriveServer(files, FOLDER_ID) as server:
        monkeypatch.setattr(requests.Session, "get_adapter",
                            lambda self, url: Adapter(server.port))
        monkeypatch.setattr(drive, "RETRIES", 0)  # each waits up to seconds
        yield server


def fetch(cache_dir, files=NEEDED, size="3 MB"):
    drive.fetch(Published(FOLDER_ID, size, "imagenet", cache_dir, "mae", files), cache_dir,
                progress=True)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def partials(folder):
    return sorted(folder.rglob("*.part"))


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_everything_listed_arrives_under_its_name(site, tmp_path, capsys, monkeypatch):
    cookies = tmp_path / "cookies.txt"
    monkeypatch.setattr(sys.modules["gdown.download"], "DEFAULT_COOKIES_FILE", str(cookies))
    fetch(tmp_path)
    folder = tmp_path / "mae"
    assert files_in(folder) == sorted([".download.lock", "download.json", *site.files])
    for name, hosted in site.files.items():
        assert (folder / name).read_bytes() == hosted.content
    record = json.loads((folder / "download.json").read_text())
    assert record == {"source": f"https://drive.google.com/drive/folders/{FOLDER_ID}",
                      "bytes": {name: len(hosted.content) for name, hosted in site.files.items()}}
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}: 3 MB announced, 0.00B of it here, ")
    assert f"{folder / 'config.json'}: fetched" in said
    assert said.endswith(f"{folder}: complete, 3 files\n")
    assert any("confirm=t" in asked for asked in site.asked)  # through the form
    assert not cookies.exists()


def test_a_kill_just_after_a_file_appeared_leaves_no_file_of_unknown_size(site, tmp_path,
                                                                          monkeypatch):
    replace = Path.replace

    def killed(self, target):
        replace(self, target)
        if target.name == "config.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        fetch(tmp_path)
    record = json.loads((tmp_path / "mae/download.json").read_text())
    assert (tmp_path / "mae/config.json").exists() and record["bytes"]["config.json"] == 2


def test_a_second_run_asks_for_the_list_only(site, tmp_path):
    fetch(tmp_path)
    site.asked.clear()
    fetch(tmp_path)
    assert len(site.asked) == 2 and all("embeddedfolderview" in asked for asked in site.asked)


# The four situations -----------------------------------------------------------------------------

def test_quota_refusal_names_address_and_remaining_files(site, tmp_path):
    site.files[NEEDED[0]].quota = True
    with pytest.raises(Unavailable, match="not complete; what remains:") as refusal:
        fetch(tmp_path)
    message = str(refusal.value)
    assert f"https://drive.google.com/drive/folders/{FOLDER_ID}\n" in message
    assert f"  {tmp_path / 'mae' / NEEDED[0]}  ({QUOTA}. Please try" in message
    assert NEEDED[1] not in message  # a quota is a file's own: the others were fetched
    assert files_in(tmp_path / "mae") == sorted([".download.lock", "download.json", NEEDED[1],
                                                 "config.json"])


def test_a_cut_connection_is_resumed_in_the_same_run(site, tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "RETRIES", 1)
    hosted = site.files[NEEDED[1]]
    hosted.cuts = [1_500_000]
    fetch(tmp_path)
    assert hosted.ranges[0] is None and hosted.ranges[1].startswith("bytes=")
    assert int(hosted.ranges[1][6:-1]) >= 2**20
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE
    assert not partials(tmp_path)


def test_a_connection_that_stays_cut_leaves_a_partial_file_that_the_next_run_resumes(
        site, tmp_path):
    hosted = site.files[NEEDED[1]]
    hosted.cuts = [1_500_000]
    with pytest.raises(Unavailable, match="received .* but the server announced") as refusal:
        fetch(tmp_path)
    assert f"{tmp_path / 'mae' / NEEDED[1]}  (not all of it arrived)" in str(refusal.value)
    assert "config.json  (missing)" in str(refusal.value)  # no use in asking for more
    assert not (tmp_path / "mae" / NEEDED[1]).exists()
    [partial] = partials(tmp_path)
    assert partial.name.startswith(f".{drive_id(NEEDED[1])}.pt")
    had = partial.stat().st_size
    assert 2**20 <= had < len(LARGE)

    fetch(tmp_path)
    assert hosted.ranges[-1] == f"bytes={had}-"
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE
    assert not partials(tmp_path)


def test_a_truncated_file_never_gets_its_name(site, tmp_path):
    site.files[NEEDED[1]].content = LARGE[:-1000]  # its length announced as if it were whole
    with pytest.raises(Unavailable, match="arrived broken and was removed: not a readable tensor"):
        fetch(tmp_path)
    assert files_in(tmp_path / "mae") == sorted([".download.lock", "download.json", NEEDED[0],
                                                 "config.json"])
    site.files[NEEDED[1]].content = LARGE
    fetch(tmp_path)
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE


def test_a_truncated_file_without_announced_length_never_gets_its_name(site, tmp_path):
    site.files[NEEDED[1]].announced, site.files[NEEDED[1]].cuts = False, [1_500_000]
    with pytest.raises(Unavailable, match="arrived broken"):
        fetch(tmp_path)
    assert not (tmp_path / "mae" / NEEDED[1]).exists() and not partials(tmp_path)


def test_files_fetched_by_hand_are_kept_and_not_asked_for(site, tmp_path, capsys):
    own = tensor_file(5, seed=1)
    path = put(tmp_path / "mae", NEEDED[0], own)
    fetch(tmp_path)
    assert path.read_bytes() == own and not site.files[NEEDED[0]].ranges
    assert f"{path}: in place" in capsys.readouterr().out


@pytest.mark.parametrize("status, title", [(404, "published"), (429, "published"), (200, "")])
def test_files_fetched_by_hand_are_enough_where_drive_refuses_the_list(
        site, tmp_path, capsys, status, title):
    site.status, site.title = status, title
    for name in NEEDED:
        put(tmp_path / "mae", name, SMALL)
    fetch(tmp_path)
    said = capsys.readouterr().out
    assert f"{tmp_path / 'mae'}: complete, 2 files\nnote: these are the files that detec" in said


# Files in place that are not whole ---------------------------------------------------------------

def test_a_broken_file_in_place_is_replaced_when_the_new_one_is_whole(site, tmp_path):
    path = put(tmp_path / "mae", NEEDED[1], LARGE[:1_000_000])
    site.files[NEEDED[1]].quota = True
    with pytest.raises(Unavailable, match=QUOTA):
        fetch(tmp_path)
    assert path.read_bytes() == LARGE[:1_000_000]  # the user's own; only a whole file replaces it
    site.files[NEEDED[1]].quota = False
    fetch(tmp_path)
    assert path.read_bytes() == LARGE


def test_a_broken_file_in_place_does_not_pass_where_drive_refuses_the_list(site, tmp_path):
    site.status = 500
    put(tmp_path / "mae", NEEDED[0], SMALL)
    put(tmp_path / "mae", NEEDED[1], LARGE[:1_000_000])
    with pytest.raises(Unavailable, match=r"feat_train_49\.pt  \(not a readable tensor file"):
        fetch(tmp_path)


def test_a_whole_file_is_not_fetched_again_because_memory_ends(site, tmp_path, monkeypatch):
    path = put(tmp_path / "mae", NEEDED[0], SMALL)

    def fail(*arguments, **options):
        raise RuntimeError("unable to mmap 40 bytes from file: Cannot allocate memory (12)")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="Cannot allocate memory"):
        fetch(tmp_path)
    assert path.read_bytes() == SMALL and not site.asked


def test_other_files_are_held_to_the_bytes_that_arrived(site, tmp_path):
    path = put(tmp_path / "mae", "config.json", b"")  # a browser's reservation
    fetch(tmp_path)
    assert path.read_bytes() == b"{}"
    path.write_bytes(b"{")
    fetch(tmp_path)
    assert path.read_bytes() == b"{}"


def test_a_file_that_could_run_code_is_not_kept(site, tmp_path):
    buffer = io.BytesIO()
    torch.save({"model": os.system}, buffer)
    site.files[NEEDED[0]].content = buffer.getvalue()
    with pytest.raises(Unavailable, match="arrived broken and was removed: not a readable tensor"):
        fetch(tmp_path)
    assert not (tmp_path / "mae" / NEEDED[0]).exists()


# Partial files that cannot be continued ----------------------------------------------------------

@pytest.mark.parametrize("left_over", [LARGE, LARGE + b"x", b"x" * 10], ids=[
    "whole, killed before its renaming", "longer than the file", "start of another file"])
def test_a_partial_file_that_cannot_be_continued_is_begun_again(site, tmp_path, left_over):
    hosted = site.files[NEEDED[1]]
    put(tmp_path / "mae", f"features/.{drive_id(NEEDED[1])}.ptabcd1234.part", left_over)
    if len(left_over) == 10:  # no validator of the old file is kept, so the loading has to notice
        with pytest.raises(Unavailable, match="arrived broken and was removed"):
            fetch(tmp_path)
        assert hosted.ranges[-1] == "bytes=10-"
    fetch(tmp_path)
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE
    assert not partials(tmp_path)


# Refusals by the server --------------------------------------------------------------------------

def test_the_other_files_are_fetched_when_one_is_forbidden(site, tmp_path):
    site.files[NEEDED[0]].status = 403
    with pytest.raises(Unavailable, match=r"checkpoint-49\.pth  \(403 Client Error"):
        fetch(tmp_path)
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE


def test_no_connection(site, tmp_path):
    site.__exit__()
    with pytest.raises(Unavailable, match=r"(?s)not complete \(.*refused.*\(missing\)"):
        fetch(tmp_path)


def test_a_needed_file_that_drive_does_not_list(site, tmp_path):
    with pytest.raises(Unavailable, match=r"target\.pt  \(missing, and the Drive folder does not"):
        fetch(tmp_path, (*NEEDED, "target.pt"))
    assert (tmp_path / "mae" / NEEDED[1]).exists()


def test_an_empty_list_is_a_refusal(site, tmp_path):
    site.files.clear()
    with pytest.raises(Unavailable, match="lists no files"):
        fetch(tmp_path)


# Names from the listing --------------------------------------------------------------------------

def test_names_in_the_listing_do_not_lead_out_of_the_folder(site, tmp_path):
    site.files = {"../up.pt": Hosted(SMALL), ":../../../evil.pt": Hosted(SMALL),
                  ":/evil.pt": Hosted(SMALL), ":..\\evil.pt": Hosted(SMALL)}
    fetch(tmp_path / "cache", ("_/up.pt",))
    names = (".download.lock", "download.json", "_/up.pt", ".._.._.._evil.pt", "_evil.pt",
             ".._evil.pt")
    assert files_in(tmp_path) == sorted(f"cache/mae/{name}" for name in names)


def test_names_in_the_listing_do_not_move_the_cursor(site, tmp_path, monkeypatch, capsys):
    class Bar(tqdm):
        def __init__(self, *, desc, **options):
            labels.append(desc)
            super().__init__(desc=desc, **options)
    labels, name = [], "\x1b[31mred.json"
    monkeypatch.setattr(drive, "tqdm", Bar)
    site.files = {name: Hosted(b"{}")}
    fetch(tmp_path / "\x1b[2J", (name,))
    said = capsys.readouterr().out
    assert "\x1b" not in said and f"{tmp_path}/\\x1b[2J/mae/\\x1b[31mred.json: fetched" in said
    assert labels == ["\\x1b[31mred.json"]
    site.files[name].quota = True
    (tmp_path / "\x1b[2J/mae" / name).unlink()
    with pytest.raises(Unavailable, match=r"mae/\\x1b\[31mred.json  \("):
        fetch(tmp_path / "\x1b[2J", (name,))
    site.status = 429
    (tmp_path / "\x1b[2J/mae" / name).write_text("{}")
    fetch(tmp_path / "\x1b[2J", (name,))
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("path", ["../evil.pt", "features/../../evil.pt", "/evil.pt"])
def test_a_path_out_of_the_folder_is_refused_even_if_gdown_let_it_pass(
        tmp_path, monkeypatch, path):
    entry = namedtuple("Entry", "id path local_path")("x" * 33, path, path)
    monkeypatch.setattr(gdown, "download_folder", lambda **_: [entry])
    with pytest.raises(Unavailable, match="which leads out of the folder"):
        fetch(tmp_path)


def test_of_a_name_listed_twice_the_first_is_taken(tmp_path, monkeypatch):
    entry = namedtuple("Entry", "id path local_path")
    monkeypatch.setattr(gdown, "download_folder",
                        lambda **_: [entry("1", "a.pt", ""), entry("2", "a.pt", "")])
    assert drive._listing("folder") == ({"a.pt": "1"}, None)


# The user's disk ---------------------------------------------------------------------------------

def test_too_small_a_disk_stops_before_the_first_request(site, tmp_path, monkeypatch):
    free = namedtuple("Usage", "total used free")(10**12, 10**12 - 2**21, 2**21)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(InputError, match=r"mae: 6\.3 GB announced, 0\.00B of it here, 2\.00MB free "
                                         r"on the disk; make room or choose another --cache_dir"):
        fetch(tmp_path, size="6.3 GB")
    assert not site.asked


def test_what_is_on_disk_already_counts_for_the_space(site, tmp_path, monkeypatch):
    free = namedtuple("Usage", "total used free")(10**12, 10**12 - 2**21, 2**21)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    put(tmp_path / "mae", f"features/.{drive_id(NEEDED[1])}.ptabcd1234.part", LARGE[:1_600_000])
    fetch(tmp_path, size="3 MB")
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE


def test_a_disk_that_fills_up_keeps_what_has_arrived(site, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"49\.pt: cannot be written \(File too large\)"):
            fetch(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "mae" / NEEDED[1]).exists() and partials(tmp_path)
    fetch(tmp_path)
    assert int(site.files[NEEDED[1]].ranges[-1][6:-1]) >= 2**20
    assert (tmp_path / "mae" / NEEDED[1]).read_bytes() == LARGE


def test_a_place_that_cannot_be_written(site, tmp_path):
    put(tmp_path / "mae", "features", b"a file where the folder should be")
    with pytest.raises(InputError, match=r"feat_train_49\.pt: cannot be written \(.*exists\)"):
        fetch(tmp_path)


def test_two_downloads_do_not_write_the_same_partial_file(site, tmp_path):
    (tmp_path / "mae").mkdir()
    with open(tmp_path / "mae" / ".download.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another download is at work here"):
            fetch(tmp_path)
    fetch(tmp_path)


def test_an_unreadable_record_is_no_record(site, tmp_path):
    put(tmp_path / "mae", "download.json", b"[1")
    fetch(tmp_path)
    reading.load(tmp_path / "mae" / NEEDED[0])
    assert json.loads((tmp_path / "mae/download.json").read_text())["bytes"]["config.json"] == 2


@pytest.mark.parametrize("name, judged", [("feat.pt", True), ("a/checkpoint-49.pth", True),
                                          ("epoch_4/pytorch_model.bin", True),
                                          ("epoch_4/training_args.bin", False)])
def test_weights_are_judged_by_loading_them(tmp_path, name, judged):
    path = put(tmp_path, name, b"<!DOCTYPE html> quota exceeded")
    fault = drive._fault(path, None)
    assert (fault is not None) == judged
