"""Ctrl-C and SIGTERM at random moments: five seconds, one line, exit status 130 or 143."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.faults.commands import contents, is_bar, leftovers

pytestmark = pytest.mark.promise("signals")
WORDS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}


@pytest.mark.fault
@pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)
def test_every_command_ends_at_once_and_goes_on_later(command, undisturbed, tmp_path, number,
                                                      fault_seed, record_property):
    expected, seconds = undisturbed
    chance, cases = random.Random(f"{fault_seed} {command.name} {number}"), 0
    word, status = WORDS[number]
    while cases < 3:
        running = command(tmp_path)
        if running.wait(chance.uniform(0.1, 0.9) * seconds) is None:
            sent = time.monotonic()
            # Ctrl-C reaches all processes of the terminal, workers too.
            running.send(number, group=number == signal.SIGINT)
            ended = running.wait(8)
            # Else it was at its end anyway, or had not begun: Python was still starting.
            starting = ended == -number and not running.err or \
                "KeyboardInterrupt" in running.err and "in launch" not in running.err
            if ended != 0 and not starting:
                assert ended == status, running.err
                assert time.monotonic() - sent < 5
                shown = [line for line in running.err.splitlines() if line.strip()]
                bars = [line for line in shown[:-1] if not is_bar(line)]
                assert shown[-1].endswith(f": {word}") and not bars, running.err
                cases += 1
    command(tmp_path).done()
    assert contents(tmp_path / "results") == expected
    assert not leftovers(tmp_path / "results")
    record_property("cases", cases)


def in_python(code, number, *, after="ready", twice=False):
    """Run code behind `launch` in a process, send the signal once it prints `ready`."""
    program = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
               "from experiment.command import arguments, signals\n"
               "from experiment.command.launch import launch\n"
               "signals.PATIENCE = 0.5\n"
               f"def main(args):\n    import time, threading, os\n{code}\n"
               "launch(main, arguments.Parser(''))\n")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == after
    process.send_signal(number)
    if twice:
        time.sleep(0.1)
        process.send_signal(number)
    shown = process.communicate(timeout=10)[1]
    return process.returncode, shown


@pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)
@pytest.mark.parametrize("code", [
    "    print('ready', flush=True); time.sleep(60)",
    # a kernel that does not come back to Python
    "    import hashlib\n    print('ready', flush=True)\n"
    "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)",
    # a library that swallows everything
    "    print('ready', flush=True)\n    while True:\n        try: time.sleep(60)\n"
    "        except BaseException: pass",
    # a worker thread that is joined at the end
    "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
    "    print('ready', flush=True); time.sleep(60)",
], ids=["waiting", "in a kernel", "swallowed", "joining"])
def test_one_line_and_the_status_whatever_it_is_at(number, code):
    word, status = WORDS[number]
    assert in_python(code, number) == (status, f"-c: {word}\n")


@pytest.mark.parametrize("error, silent", [("ConnectionResetError()", True), ("EOFError()", True),
                                           ("ValueError('a defect')", False)])
def test_a_worker_adds_no_line_on_connections_that_close(error, silent):
    """As multiprocessing's threads report them."""
    code = (f"    if os.fork() == 0:\n        error = {error}\n"
            "        sys.excepthook(type(error), error, None)\n        os._exit(0)\n"
            "    os.wait(); print('ready', flush=True); time.sleep(60)")
    said = "" if silent else "ValueError: a defect\n"
    assert in_python(code, signal.SIGTERM) == (143, f"{said}-c: terminated\n")


def test_what_a_library_makes_of_it_is_no_error_of_ours():
    """torch.save ends in a RuntimeError of its own when it is interrupted."""
    code = ("    print('ready', flush=True)\n    try: time.sleep(60)\n"
            "    except KeyboardInterrupt: raise RuntimeError('unexpected pos 768 vs 662')")
    assert in_python(code, signal.SIGINT) == (130, "-c: interrupted\n")
    assert in_python(code, signal.SIGTERM) == (143, "-c: terminated\n")


def test_half_built_objects_do_not_complain():
    code = ("    class Half:\n        def __init__(self): time.sleep(60); self.rest = 1\n"
            "        def __del__(self): self.rest\n    print('ready', flush=True)\n    Half()")
    assert in_python(code, signal.SIGTERM) == (143, "-c: terminated\n")


def test_a_second_ctrl_c_adds_nothing():
    code = ("    print('ready', flush=True)\n    try: time.sleep(60)\n"
            "    finally: time.sleep(0.3)")
    assert in_python(code, signal.SIGINT, twice=True) == (130, "-c: interrupted\n")


def test_what_is_cleaned_up_is_cleaned_up():
    code = ("    try:\n        print('ready', flush=True); time.sleep(60)\n"
            "    finally: os.write(2, b'clean ')")
    assert in_python(code, signal.SIGTERM) == (143, "clean -c: terminated\n")


def test_a_forked_process_is_on_its_own():
    """SIGTERM to a child, as workers get it, says nothing to the parent."""
    code = ("    child = os.fork()\n    if child == 0: time.sleep(60); os._exit(1)\n"
            "    os.kill(child, 15); os.waitpid(child, 0); print('ready', flush=True)\n"
            "    time.sleep(1); os._exit(7)")
    process = in_python(code, 0)
    assert process == (7, "")


def test_handlers_are_as_before(script):
    before = [signal.getsignal(number) for number in WORDS]
    script("download.py", "-n", "nothing", check=False)
    assert [signal.getsignal(number) for number in WORDS] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.slow  # two processes
def test_a_reader_that_goes_away_is_no_error(feature_file, tmp_path):
    """python detect.py … | head -1"""
    words = [sys.executable, ROOT / "detect.py", "--features", feature_file, "--cache_dir",
             tmp_path, "--verbose", "False"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141
