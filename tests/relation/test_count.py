import pytest
import torch

from relation.count import Count, _beyond, _ranked, count_wrong
from relation.sampling import row_keys


def counted(q: torch.Tensor, slots: torch.Tensor, shares: torch.Tensor, **how) -> Count:
    share = torch.where(slots >= 0, shares[slots.clamp(min=0)], 0.0)
    return count_wrong(q, share, row_keys(q), **how)


def simulated(share_wrong, hardness, n=4000, classes=5, softer=1.0):
    """q (N, C) and slots, given label first, of witnesses that know the truth up to `hardness` and
    say so by its power `softer`; the number of wrong labels, which may be any other."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(torch.randn(n, classes, generator=generator) / hardness, 1)
    true = torch.multinomial(probs, 1, generator=generator)[:, 0]
    wrong = torch.rand(n, generator=generator) < share_wrong
    other = torch.randint(1, classes, (n,), generator=generator)
    given = torch.where(wrong, (true + other) % classes, true)
    slots = (given[:, None] + torch.arange(classes)) % classes
    # As witnesses are that are sharpened on the given labels: softer than the truth.
    q = torch.softmax(softer * probs.clamp(min=1e-12).log(), 1).gather(1, slots)
    return q, slots, torch.full((classes,), 1 / classes), int(wrong.sum())


def asked_about(width, q, slots):
    """q and slots of the given label and the likeliest others, as `auto.py` asks: witnesses that
    know no other class, and allow for noise in what they know."""
    best = q[:, 1:].argsort(dim=1, descending=True)[:, :width - 1] + 1
    best = torch.cat([torch.zeros_like(best[:, :1]), best], 1)
    q = q.gather(1, best)
    return 0.92 * q / q.sum(1, keepdim=True) + 0.08 / width, slots.gather(1, best)


@pytest.mark.parametrize("share_wrong", [0.02, 0.08, 0.3])
def test_hard_rows_are_not_wrong_rows(share_wrong):
    q, slots, shares, wrong = simulated(share_wrong, hardness=0.15, softer=0.4)
    found = counted(q, slots, shares, replaced=2 * wrong, agreed=wrong, rejected=3 * wrong,
                    class_noise=0)
    assert found.claimed and wrong / 1.3 < found.wrong < 1.3 * wrong
    assert found.low <= found.wrong <= found.high == pytest.approx(2.6 * wrong, abs=1)


@pytest.mark.parametrize("width", [4, 8, 200])
def test_a_wrong_label_among_many_classes_is_seen_where_few_are_asked_about(width):
    q, slots, shares, wrong = simulated(0.08, hardness=0.07, classes=200, softer=0.4)
    found = counted(*asked_about(width, q, slots), shares, replaced=5 * wrong, agreed=wrong,
                    rejected=5 * wrong, class_noise=0)
    assert found.claimed and wrong / 1.2 < found.wrong < 1.2 * wrong
    assert found.low < wrong < found.high


def test_labels_in_sight_of_the_likeliest_are_no_noise():
    """Sure rows that are rejected for their next class: half of them, and none is wrong."""
    q, slots, shares, wrong = simulated(0.04, hardness=0.15, classes=50, softer=0.4)
    generator = torch.Generator().manual_seed(1)
    order = q.argsort(dim=1, descending=True)
    rows = ((order[:, 0] == 0) & (torch.rand(len(q), generator=generator) < 0.3)).nonzero()[:, 0]
    next_one = order[rows, 1]
    for values in (q, slots):
        values[rows, 0], values[rows, next_one] = values[rows, next_one], values[rows, 0]
    found = counted(q, slots, shares, replaced=len(rows), agreed=len(rows),
                    rejected=2 * len(rows), class_noise=0)
    assert found.wrong < 2 * wrong < len(rows) / 2 and found.low < wrong < found.high


def test_both_answers_are_met_in_the_middle_where_they_are_alike():
    q, slots, shares, wrong = simulated(0.2, hardness=0.15, softer=0.4)
    alike, apart = (counted(q, slots, shares, replaced=round(1.5 * wrong), agreed=wrong,
                            rejected=rejected, class_noise=0)
                    for rejected in (wrong, 2 * wrong))
    assert apart.wrong == pytest.approx(wrong, rel=0.15)
    assert alike.wrong == pytest.approx((1.5 * wrong * apart.wrong) ** 0.5, abs=1)


def test_a_label_that_is_far_from_likely_makes_no_row_sure():
    """The slots of a wrong label hold one class less that its row might be mistaken for."""
    q = torch.tensor([[32, 16, 16]] * 50 + [[1, 42, 21]] * 50) / 64
    found = counted(q, torch.arange(3).expand(100, -1), torch.full((50,), 0.02), replaced=99,
                    agreed=60, rejected=99, class_noise=1)
    assert found.low == round(50 / 1.3)


def test_what_hard_rows_hide_from_the_noise_term_is_seen_far_from_the_likeliest():
    q, slots, shares, wrong = simulated(0.1, hardness=0.3, classes=10, softer=0.4)
    q = 0.94 * q + 0.06 / 10  # witnesses that allow for some of the noise
    found = counted(q, slots, shares, replaced=4 * wrong, agreed=wrong, rejected=9 * wrong,
                    class_noise=0)
    assert found.claimed and 1.3 * found.low < 0.88 * wrong < 0.95 * wrong < found.wrong
    assert found.wrong < 1.05 * wrong
    fewer = counted(q, slots, shares, replaced=wrong, agreed=wrong, rejected=9 * wrong,
                    class_noise=0)  # and what is seen there is no more than what is replaced
    assert fewer.wrong == pytest.approx((1.3 * fewer.low + wrong) / 2, abs=1)


@pytest.mark.parametrize("classes, width", [(2, 2), (7, 7), (30, 3)])
def test_labels_beyond_half_of_all_by_the_plain_formula(classes, width):
    q, slots, _, _ = simulated(0.2, hardness=0.5, n=60, classes=classes)
    q, slots = asked_about(width, q, slots)
    shares = torch.softmax(torch.randn(classes, generator=torch.Generator().manual_seed(2)), 0)
    found, expected = [], []
    top = [sorted(row, reverse=True) for row in q.tolist()]
    sure = sorted(range(60), key=lambda row: -top[row][0] / top[row][1])[:30]
    for row in sure:
        before = 0.0
        for place, slot in enumerate(q[row].argsort(descending=True).tolist()):
            last = place == width - 1
            share = 1 - before if last else float(shares[slots[row, slot]])
            if last or before >= 0.5:
                found.append(slot == 0)
                expected.append(share)
            before += share
    ranks = _ranked(q, shares[slots].double())
    assert _beyond(ranks) == pytest.approx(sum(found) / sum(expected))


@pytest.mark.parametrize("rejected, claimed", [(300, True), (700, False)])
def test_witnesses_that_need_no_noise_leave_the_count_to_what_is_replaced(rejected, claimed):
    q, slots, shares, _ = simulated(0.0, hardness=0.5)
    found = counted(q, slots, shares, replaced=300, agreed=290, rejected=rejected,
                    class_noise=0)
    assert found.wrong == 300 and found.claimed == claimed and found.high == 390


def test_nothing_is_claimed_of_witnesses_that_are_hardly_sharper():
    q, slots, shares, _ = simulated(0.02, hardness=0.3, softer=0.8)
    found = counted(q, slots, shares, replaced=400, agreed=200, rejected=200, class_noise=0)
    assert not found.claimed and found.low <= found.wrong < 400


@pytest.mark.parametrize("class_noise, claimed", [(1, True), (0.5, False)])
def test_a_pattern_leaves_the_count_to_what_is_replaced(class_noise, claimed):
    q, slots, shares, wrong = simulated(0.3, hardness=0.15, softer=0.4)
    found = counted(q, slots, shares, replaced=wrong // 2, agreed=wrong, rejected=2 * wrong,
                    class_noise=class_noise)
    assert found.wrong == wrong // 2 and found.claimed == claimed


def test_where_sure_rows_are_never_rejected_two_witnesses_have_to_agree():
    q, slots, shares, _ = simulated(0.0, hardness=0.15)
    sure = q.amax(1) > 0.9
    q[sure] = q[sure].sort(1, descending=True).values  # the witnesses repeat the given label
    for rejected, claimed in ((1000, False), (450, True)):
        found = counted(q, slots, shares, replaced=70, agreed=400, rejected=rejected,
                        class_noise=0)
        assert found.claimed == claimed and found.wrong == 70


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("n", [1, 3])
def test_few_rows(n, classes):
    found = counted(torch.full((n, classes), 1 / classes), torch.arange(classes).expand(n, -1),
                    torch.full((classes,), 1 / classes), replaced=0, agreed=0, rejected=0,
                    class_noise=0)
    assert 0 <= found.low <= found.wrong <= found.high <= n
