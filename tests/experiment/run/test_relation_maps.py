import json

import pytest
import torch

import relation
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.run.relation_maps import maps_of


@pytest.fixture
def epochs(clusters):
    """Three epochs of the clusters: undecided, halfway, sure."""
    features, probs, labels, _ = clusters
    return [Samples(f"epoch {number}", features, torch.lerp(torch.full_like(probs, 0.25), probs,
                                                            number / 3), labels)
            for number in (1, 2, 3)]


def test_the_strongest_points_are_kept_in_order(epochs):
    found, = maps_of(iter(epochs), [5], kernel="cos_p", points=10)
    whole = relation.relation_map([(e.features, e.probs, e.labels) for e in epochs],
                                  torch.tensor([5]))
    square = whole.mean[0] ** 2 + whole.variance[0]
    square[5] = -1
    assert found.others.tolist() == square.topk(10).indices.tolist()
    torch.testing.assert_close(found.mean, whole.mean[0, found.others])
    torch.testing.assert_close(found.variance, whole.variance[0, found.others])
    torch.testing.assert_close(found.last, whole.last[0, found.others])
    assert found.left_out == 120 - 1 - 10
    # Row 5 is of the second cluster and carries the label of the third: its own contradict it.
    assert set((found.others % 4).tolist()) == {1} and (found.mean < 0).all()


def test_json_holds_the_same_in_four_digits(epochs):
    some = maps_of(epochs, [0, 7], kernel="cos", points=3)
    for found, told in zip(some, json.loads(json.dumps([one.as_json() for one in some]))):
        assert told["index"] == found.index and told["left_out"] == 116
        assert told["others"] == found.others.tolist()
        assert told["mean"] == pytest.approx(found.mean.tolist(), rel=1e-3)
    assert len(json.dumps(some[0].as_json())) < 250


def test_more_points_than_rows_keeps_all(epochs):
    found, = maps_of(epochs, [0], kernel="cos_p", points=1000)
    assert sorted(found.others.tolist()) == list(range(1, 120)) and found.left_out == 0


def test_epochs_of_other_rows_are_refused(epochs):
    other = Samples("other.npz", epochs[0].features, epochs[0].probs, epochs[0].labels.flip(0))
    fewer = Samples("fewer.npz", *(t[:50] for t in (other.features, other.probs, other.labels)))
    for wrong in (other, fewer):
        with pytest.raises(InputError, match=f"{wrong.source}: expected the same rows and labels"):
            maps_of([epochs[0], wrong], [0], kernel="cos_p", points=5)
