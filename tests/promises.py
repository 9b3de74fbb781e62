"""docs/promises.md: what is promised, where it is tested, and how many cases passed in a real run.

    python -m pytest -m promise --promises=docs/promises.md

With "=": a file that is there, behind a space, is taken by pytest for a place of tests.

A test says what it shows with @pytest.mark.promise(NAME); one that tries many cases in a loop says
how many with record_property("cases", n). Random faults follow --fault-seed.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

PROMISES = {
    "files": "A file that is truncated, has flipped bytes, is empty or of another kind is refused "
             "by name, never read as wrong numbers",
    "hostile": "A malicious file runs nothing, reaches nothing outside its folder and allocates "
               "nothing large; no load is unrestricted",
    "signals": "Ctrl-C and SIGTERM end a run within five seconds, with one line and exit status "
               "130 or 143",
    "kills": "After SIGKILL at any moment, rerunning the command ends as an undisturbed run does",
    "writes": "Files appear whole or not at all; a full disk gives one line and keeps the old file",
    "sharing": "Two processes on one experiment do not corrupt each other's files",
    "caches": "Cached results are used only for the data and settings that they were made from",
    "names": "Names of any kind stay in the results folder, and are escaped in CSV files and on "
             "the terminal",
    "numbers": "Extreme numbers give finite, ordered scores or a clear refusal, never NaN",
    "memory": "A run says how much memory it needs, adapts to what is available, and gets the same "
              "result after it ran out of memory",
    "load": "Many runs at once, many classes, many rows, one class for nearly all rows: the same "
            "scores",
    "supply": "Versions are bounded and checked; the licence and the security note are there",
}
INTRODUCTION = """\
# What is promised, and how it is tested

Kills, full disks and corrupt or malicious files must never silently corrupt a run. Two processes
on one experiment wait for each other. After Ctrl-C, SIGTERM (exit status 130, 143) or a kill, rerun
the command to resume. [SECURITY.md](../SECURITY.md) says what is trusted.

`python -m pytest -m fault --fault-seed 7` kills, interrupts and starves every command at random
points (five minutes). `python -m pytest -m fuzz --fault-seed 7` reads 3,000 mutations of each of
twelve kinds of files (25 minutes): each is read or refused with exit status 2, in less than 20 s
and 1 GiB."""


def pytest_addoption(parser):
    group = parser.getgroup("promises")
    group.addoption("--promises", type=Path, metavar="FILE",
                    help="write the table of promises from this run, if nothing fails")
    group.addoption("--fault-seed", type=int, default=int(os.environ.get("FAULT_SEED", 0)),
                    metavar="N", help="seed of random faults (default: FAULT_SEED, or 0)")
    group.addoption("--fuzz-count", type=int, default=3000, metavar="N",
                    help="mutations of each kind of file (default: 3000)")


def pytest_configure(config):
    config.addinivalue_line("markers", "promise(name): the test shows this entry of PROMISES")
    config.pluginmanager.register(Table(), "table of promises")


def pytest_report_header(config):
    return f"fault seed: {config.getoption('fault_seed')}"


def pytest_collection_modifyitems(items):
    for item in items:
        for marker in item.iter_markers("promise"):
            name, = marker.args
            if name not in PROMISES:
                raise pytest.UsageError(f"{item.nodeid}: no promise {name!r} in tests/promises.py")
            item.user_properties.append(("promise", name))


class Table:
    """Counts cases as their reports come in."""

    def __init__(self):
        self.cases, self.files = Counter(), {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or not report.passed:
            return
        cases = sum(value for name, value in report.user_properties if name == "cases") or 1
        for name, promise in report.user_properties:
            if name == "promise":
                self.cases[promise] += cases
                self.files.setdefault(promise, set()).add(report.location[0])

    def pytest_sessionfinish(self, session, exitstatus):
        path = session.config.getoption("promises")
        if path is None or exitstatus != 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines(session.config.getoption("fault_seed"))) + "\n",
                        encoding="utf-8")

    def lines(self, seed):
        yield INTRODUCTION
        yield ""
        yield f"The table comes from a test run without a failure (random faults from seed {seed}):"
        yield ""
        yield "```bash\npython -m pytest -m promise --promises=docs/promises.md\n```"
        yield ""
        yield "| promise | tested by | cases that passed |"
        yield "|---|---|---:|"
        for name, promise in PROMISES.items():
            files = ", ".join(f"`{file}`" for file in sorted(self.files.get(name, ())))
            yield f"| {promise} | {files or 'nothing in this run'} | {self.cases[name]:,} |"


@pytest.fixture(scope="session")
def fault_seed(pytestconfig):
    """What random faults follow."""
    return pytestconfig.getoption("fault_seed")


@pytest.fixture(scope="session")
def fuzz_count(pytestconfig):
    """Mutations of each kind of file."""
    return pytestconfig.getoption("fuzz_count")
