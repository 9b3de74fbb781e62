"""What can be seen of signal handling without a signal; tests/faults has the others."""

import importlib
import os
import signal

from experiment.command import signals


def test_importing_it_changes_nothing_and_forks_are_prepared_once(monkeypatch):
    prepared = []
    monkeypatch.setattr(os, "register_at_fork", lambda **how: prepared.append(how))
    before = signal.getsignal(signal.SIGTERM)
    reloaded = importlib.reload(signals)
    assert not prepared
    for _ in range(2):
        with reloaded.handling([], print):
            assert signal.getsignal(signal.SIGTERM) is not before
        assert signal.getsignal(signal.SIGTERM) is before
    assert len(prepared) == 1 and not reloaded.IN_CHARGE
