"""Many at once, many classes, many rows, nearly all rows of one class."""

import time

import pytest
import torch

import relation
from tests.faults.commands import Command, contents

pytestmark = [pytest.mark.promise("load"), pytest.mark.slow]


def blobs(n, dim, classes, seed=0, share=None):
    """features, probs (top two classes only), labels, is_noisy; labels evenly, or by `share`."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (n,), generator=generator) if share is None else \
        torch.multinomial(share, n, replacement=True, generator=generator)
    centres = torch.randn(classes, dim, generator=generator)
    features = centres[true] + 0.3 * torch.randn(n, dim, generator=generator)
    probs = torch.full((n, classes), 0.0)
    probs[torch.arange(n), true] = 0.9
    probs[torch.arange(n), (true + 1) % classes] += 0.1
    is_noisy = torch.rand(n, generator=generator) < 0.05
    return features, probs, torch.where(is_noisy, (true + 1) % classes, true), is_noisy


def ap(features, probs, labels, is_noisy, **options):
    found = relation.detect_label_noise(features, probs, labels, **options)
    assert found.scores.isfinite().all()
    return relation.evaluate(found.scores.numpy(), is_noisy.numpy()).ap


def test_eight_detections_at_once(world, tmp_path):
    """On one experiment, into one report folder: all end well, the report is that of one run."""
    words = ("detect.py", "--features", world / "train.npz", "--device", "cpu", "--cache_dir",
             "results")
    (tmp_path / "alone").mkdir()
    Command(tmp_path / "alone", *words).done()
    (tmp_path / "results").mkdir()
    running = []
    for number in range(8):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        (cwd / "results").symlink_to(tmp_path / "results")
        running.append(Command(cwd, *words))
    for command in running:
        command.done()
    assert contents(tmp_path / "results") == contents(tmp_path / "alone/results")


def test_ten_thousand_classes():
    assert ap(*blobs(30_000, 32, 10_000), temperature=4) > 0.9


def test_a_million_rows_of_64_features():
    """Sums over 10^12 pairs; the plain formula on some rows says the same."""
    features, probs, labels, is_noisy = blobs(1_000_000, 64, 500)
    started = time.monotonic()
    reliability = relation.relation_scores(features, probs, labels, temperature=4)
    print(f"{time.monotonic() - started:.0f} s")
    assert reliability.isfinite().all()
    rows = torch.arange(0, 1_000_000, 200_000)
    plain = relation.relation_scores(features[rows], probs[rows], labels[rows],
                                     target_features=features, target_probs=probs,
                                     target_labels=labels, temperature=4, engine="dense")
    torch.testing.assert_close(reliability[rows], plain, rtol=1e-4, atol=1e-3)
    assert relation.evaluate(-reliability.numpy(), is_noisy.numpy()).ap > 0.9


@pytest.mark.parametrize("largest", [0.9, 0.999])
def test_labels_extremely_unbalanced(largest):
    """One class has nearly all rows; others have a few, one, or none."""
    share = torch.full((50,), (1 - largest) / 49)
    share[0] = largest
    features, probs, labels, is_noisy = blobs(20_000, 32, 50, share=share)
    dense = relation.relation_scores(features, probs, labels, engine="dense")
    auto = relation.relation_scores(features, probs, labels)
    torch.testing.assert_close(auto, dense, rtol=1e-4, atol=1e-3)
    found = relation.auto_scores(features, probs, labels)
    assert found.scores.isfinite().all() and found.suggested_labels.max() < 50
    assert ap(features, probs, labels, is_noisy) > 0.5
