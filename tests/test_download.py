"""download.py through its command line; Drive is a local server, the digits' builder a stand-in."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

import download
from experiment import published
from experiment.command.errors import InputError
from experiment.files import drive
from tests.drive_server import LARGE, SMALL, DriveServer, Hosted, drive_id

ROOT = Path(__file__).parent.parent
ESC50 = published.PUBLISHED["esc50"]
SCRIPT = str(ROOT / "download.py")


def command(*options, port=None):
    """download.py in a process of its own; with a port, its sessions go to the local server."""
    if port is None:
        return [sys.executable, SCRIPT, *options]
    code = (f"import runpy, sys; from tests import drive_server; drive_server.divert({port}); "
            f"sys.argv[0] = {SCRIPT!r}; runpy.run_path({SCRIPT!r}, run_name='__main__')")
    return [sys.executable, "-c", code, *options]


def run(*options, cwd=ROOT, port=None):
    return subprocess.run(command(*options, port=port), cwd=cwd, capture_output=True, text=True,
                          timeout=60, env=environment())


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def site():
    files = {name: Hosted(SMALL) for name in ESC50.files}
    with DriveServer(files, ESC50.drive_id) as server:
        yield server


def test_help_loads_nothing_heavy():
    code = (f"import runpy, sys\nsys.argv = ['download.py', '--help']\n"
            f"try: runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
            f"except SystemExit: assert not {{'torch', 'gdown', 'requests'}} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_name_the_known_ones_are_listed_with_their_sizes():
    done = run()
    assert done.returncode == 2 and "expected -n NAME, one of" in done.stderr
    for name, found in published.PUBLISHED.items():
        [line] = [line for line in done.stderr.splitlines() if line.split()[0] == name]
        assert found.size in line
    assert "digits_60" in done.stderr


@pytest.mark.parametrize("name", ["mae_huge_49", "", "../mae_large_49", "SST2"])
def test_an_unknown_name_lists_the_known_ones(name):
    known = ", ".join(published.PUBLISHED)
    with pytest.raises(InputError, match=f"no such experiment; known: {known}, digits_60, dig"):
        download.main(Namespace(name=name, cache_dir=None, verbose=True))


def test_the_six_go_where_their_domain_looks(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(drive, "fetch", lambda *args, progress: calls.append(args))
    for name in published.PUBLISHED:
        download.main(Namespace(name=name, cache_dir=None, verbose=False))
        download.main(Namespace(name=name, cache_dir=tmp_path, verbose=False))
    folders = {found.drive_id: (cache_dir / found.folder).relative_to(ROOT).as_posix()
               for found, cache_dir in calls[::2]}
    assert list(folders.items()) == [
        ("1hkroHQ4DZwAQ6OBmevljMB1DO3k0cmxv", "results/mae_large_noise0.08"),
        ("1v-2w2dGRXcldGsMoOK442xBR0-AysKKJ", "results/mae_large"),
        ("13LuABuXfWBhFFgIM7wyWQB7jQBtTGiKV", "results/resnet50"),
        ("1N-Do1tol7SSOng7Wv2PgCigZSmXLc1aY", "language/results/sst2"),
        ("12RIvatQbpzyuowpRuCANeRb-XhwPOcHw", "language/results/mnli"),
        ("1OkM5YV2zQmoR6ZyLX0tPN9Y0ah_COi2Z", "speech/results")]
    assert all(cache_dir == tmp_path for _, cache_dir in calls[1::2])


@pytest.mark.parametrize("name, folder, epoch", [
    ("digits_60", "digits", 60), ("digits_noise0.08_60", "digits_noise0.08", 60),
    ("digits_noise0.2_pair_seed3_40", "digits_noise0.2_pair_seed3", 40)])
def test_digits_are_built(monkeypatch, tmp_path, name, folder, epoch):
    monkeypatch.chdir(tmp_path)
    calls = []
    digits, build = ModuleType("digits"), ModuleType("digits.build")
    digits.build, build.build = build, lambda *args, progress: calls.append((*args, progress))
    monkeypatch.setitem(sys.modules, "digits", digits)
    monkeypatch.setitem(sys.modules, "digits.build", build)
    download.main(Namespace(name=name, cache_dir=None, verbose=False))
    download.main(Namespace(name=name, cache_dir=Path("here"), verbose=True))
    assert calls == [(ROOT / "results" / folder, epoch, False),
                     (Path("here") / folder, epoch, True)]


def test_digits_without_an_epoch():
    with pytest.raises(InputError, match="expected an epoch after the last '_'"):
        download.main(Namespace(name="digits", cache_dir=None, verbose=True))


def test_all_files_arrive_under_a_cache_dir_of_the_current_folder(site, tmp_path):
    done = run("-n", "esc50", "--cache_dir", "mine", cwd=tmp_path, port=site.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "mine: complete, 3 files"
    for name in ESC50.files:
        assert (tmp_path / "mine" / name).read_bytes() == SMALL


def test_a_refusal_ends_with_status_1_and_the_browsers_address(site, tmp_path):
    site.files["feat_train_25.pt"].quota = True
    done = run("-n", "esc50", "--cache_dir", str(tmp_path), "--verbose", "False", port=site.port)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "  https://drive.google.com/drive/folders/1OkM5YV2zQmoR6ZyLX0tPN9Y0ah_COi2Z" in \
        done.stderr.splitlines()
    assert f"  {tmp_path / 'feat_train_25.pt'}  (Too many users" in done.stderr
    assert len(done.stdout.splitlines()) == 1  # the space on the disk
    (tmp_path / "feat_train_25.pt").write_bytes(SMALL)  # fetched by hand in a browser
    done = run("-n", "esc50", "--cache_dir", str(tmp_path), port=site.port)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_place_that_cannot_be_written_ends_with_status_2(site, tmp_path):
    (tmp_path / "file").touch()
    done = run("-n", "esc50", "--cache_dir", str(tmp_path / "file"), port=site.port)
    assert done.returncode == 2 and "cannot be written to" in done.stderr
    assert not site.asked


@pytest.mark.fault
def test_a_killed_download_goes_on_where_it_was(site, tmp_path):
    hosted = site.files["feat_train_25.pt"]
    hosted.content, hosted.cuts, hosted.stall = LARGE, [1_500_000], True
    options = ("-n", "esc50", "--cache_dir", str(tmp_path))
    process = subprocess.Popen(command(*options, port=site.port), cwd=ROOT, env=environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial, deadline = [], time.monotonic() + 60
    while not (partial and partial[0].stat().st_size >= 2**20):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
        partial = list(tmp_path.glob(f".{drive_id('feat_train_25.pt')}.pt*.part"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "feat_train_25.pt").exists()
    had = partial[0].stat().st_size
    done = run(*options, port=site.port)
    assert done.returncode == 0, done.stderr
    assert hosted.ranges[-1] == f"bytes={had}-"
    assert (tmp_path / "feat_train_25.pt").read_bytes() == LARGE
    assert not list(tmp_path.glob("*.part"))
