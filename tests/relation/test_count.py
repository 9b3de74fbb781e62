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
    found = count_wrong(soft, share, replaced=2 * wrong, agreed=wrong, rejected=3 * wrong,
                        class_noise=0)
    assert found.claimed and wrong / 1.3 < found.wrong < 1.3 * wrong
    assert found.low <= found.wrong <= found.high == pytest.approx(2.6 * wrong, abs=1)


def test_witnesses_that_need_no_noise_leave_the_count_to_what_is_replaced():
    q, share, _ = simulated(0.0, hardness=0.5)
    found = count_wrong(q, share, replaced=300, agreed=0, rejected=9, class_noise=0)
    assert found.claimed and found.low < 40 and found.wrong > 250


def test_a_pattern_leaves_the_count_to_what_is_replaced():
    q, share, wrong = simulated(0.3, hardness=0.15)
    soft = torch.softmax(0.4 * q.clamp(min=1e-12).log(), 1)
    found = count_wrong(soft, share, replaced=wrong // 2, agreed=wrong, rejected=wrong,
                        class_noise=1)
    assert found.wrong == wrong // 2


def test_where_sure_rows_are_never_rejected_two_witnesses_have_to_agree():
    q, share, _ = simulated(0.0, hardness=0.15)
    sure = q.amax(1) > 0.9
    q[sure] = q[sure].sort(1, descending=True).values  # the witnesses repeat the given label
    for rejected, claimed in ((1000, False), (450, True)):
        found = count_wrong(q, share, replaced=70, agreed=400, rejected=rejected, class_noise=0)
        assert found.claimed == claimed and found.wrong == 70


@pytest.mark.parametrize("n", [1, 3])
def test_few_rows(n):
    found = count_wrong(torch.full((n, 2), 0.5), torch.full((n,), 0.5), replaced=0, agreed=0,
                        rejected=0, class_noise=0)
    assert 0 <= found.low <= found.wrong <= found.high <= n
