import threading
import time

import pytest
import torch

from relation.parallel import AHEAD, LARGEST_BATCH, in_order

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("pieces", [0, 1, 2, 63, 64, 1000])
def test_every_piece_once_and_in_order(pieces):
    assert list(in_order(lambda piece: 2 * piece, range(pieces), CPU)) == \
        [2 * piece for piece in range(pieces)]


def test_results_do_not_pile_up_before_a_slow_consumer():
    """However long it sleeps, the threads are only so far ahead of it."""
    computed, most_ahead = [], 0
    for taken, _ in enumerate(in_order(computed.append, range(2000), CPU)):
        if taken % 100 == 0:
            time.sleep(0.05)  # enough for the threads to compute all 2,000
        most_ahead = max(most_ahead, len(computed) - taken)
    assert len(computed) == 2000
    # One more batch: of the results that are being taken.
    assert most_ahead <= (2 * AHEAD + 1) * LARGEST_BATCH


def test_a_consumer_that_stops_leaves_nothing_running():
    computed, threads = [], threading.active_count()
    results = in_order(computed.append, range(2000), CPU)
    next(results)
    results.close()
    there = len(computed)
    assert there <= (2 * AHEAD + 1) * LARGEST_BATCH
    time.sleep(0.05)
    assert len(computed) == there and threading.active_count() == threads
