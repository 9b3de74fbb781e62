import pytest
import torch

from relation.count import count_wrong


def simulated(share_wrong, hardness, n=4000, classes=5):
    """q (N, 5), given label first, of witnesses that know the truth up to `hardness`."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(torch.randn(n, classes, generator=generator) / hardness, 1)
    true = torch.multinomial(probs, 1, generator=generator)[:, 0]
    wrong = torch.rand(n, generator=generator) < share_wrong
    given = torch.where(wrong, (true + 1) % classes, true)
    order = (given[:, None] + torch.arange(classes)) % classes
    return probs.gather(1, order), torch.full((n,), 1 / classes), int(wrong.sum())


@pytest.mark.parametrize("share_wrong", [0.02, 0.08, 0.3])
def test_hard_rows_are_not_wrong_rows(share_wrong):
    q, share, wrong = simulated(share_wrong, hardness=0.15)
    # As witnesses would be that are sharpened on the given labels: softer than the truth.
    soft = torch.softmax(0.4 * q.clamp(min=1e-12).log(), 1)
    found = count_wrong(soft, share, replaced=2 * wrong)
    assert wrong / 1.3 < found.wrong < 1.3 * wrong
    assert found.low <= found.wrong <= found.high == 2 * wrong


def test_witnesses_that_need_no_noise_leave_the_count_to_what_is_replaced():
    q, share, _ = simulated(0.0, hardness=0.5)
    found = count_wrong(q, share, replaced=300)
    assert found.low < 40 and found.wrong > 250
