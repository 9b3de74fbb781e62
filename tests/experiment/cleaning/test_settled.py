import pytest
import torch

from experiment.cleaning import settled
from experiment.command.errors import InputError
from experiment.inputs import own_data, probe
from experiment.inputs.own_data import Rows
from experiment.inputs.own_head import OwnHead
from experiment.inputs.samples import DROPPED, LeftOut, Reviewed, Samples


@pytest.fixture
def rows():
    return Rows.of("photos", ["a", "b", "c", "d", "e"], ["cat", "dog", "cat", "", "dog"])


@pytest.fixture
def samples():
    return Samples("train.npz", torch.eye(4), torch.full((4, 2), 0.5), own_data=True,
                   labels=torch.tensor([0, 1, 0, 1]), class_names=["cat", "dog"],
                   is_noisy=torch.tensor([True, False, False, False]))


@pytest.fixture
def decided(tmp_path):
    def write(*lines):
        path = tmp_path / "decisions.csv"
        path.write_text("\n".join(["index,id,given_label,decision,new_label", *lines]))
        return path
    return write


def test_nothing_decided_changes_nothing(rows, samples):
    assert settled.rows(rows, None) is rows and settled.samples(samples, None) is samples


def test_rows(rows, decided):
    found = settled.rows(rows, decided("0,a,cat,relabel,fox", "1,b,dog,relabel,DOG",
                                       "3,d,,relabel,cat", "4,e,dog,drop,"))
    assert found.labels == ("fox", "dog", "cat", "dog") and found.index == (0, 1, 2, 4)
    assert found.reviewed == (Reviewed(0, "a", "cat", "relabel", "fox"),
                              Reviewed(1, "b", "dog", "keep", ""),  # its label already
                              Reviewed(3, "d", "", "relabel", "cat"),  # left out, without a label
                              Reviewed(4, "e", "dog", "drop", ""))
    assert found.notes == ("4 decisions: 0 keep, 3 relabel, 1 drop; these rows are settled",
                           "new class 'fox': 1 of the rows")


def test_feature_file(samples, decided):
    found = settled.samples(samples, decided("0,0,cat,relabel,dog", "1,1,dog,keep,", "2,2,,drop,"))
    assert found.labels.tolist() == [1, 1, 1] and found.index.tolist() == [0, 1, 3]
    assert torch.equal(found.features, torch.eye(4)[[0, 1, 3]]) and found.is_noisy is None
    assert found.left_out == (LeftOut(2, "2", DROPPED),)
    assert found.decisions == ["relabel", "keep", ""]
    assert found.is_settled.tolist() == [True, True, False]
    assert samples.labels.tolist() == [0, 1, 0, 1]
    kept = settled.samples(samples, decided("1,1,dog,keep,"))
    assert kept.is_noisy is samples.is_noisy and kept.features is samples.features
    assert kept.every(3).is_settled.tolist() == [False, False]  # rows 0 and 3


@pytest.mark.parametrize("line, message", [
    ("1,x,dog,keep,", "line 2: row 1 is 'b', was 'x'"),
    ("1,b,cat,keep,", "line 2: row 1, 'b', has label 'dog', had 'cat'"),
    ("9,b,dog,keep,", "line 2: row 9 of 5"),
    ("1,b,dog,burn,", "decision: expected keep, relabel, drop, got 'burn'")])
def test_stale_and_wrong_decisions(rows, decided, line, message):
    with pytest.raises(InputError) as error:
        settled.rows(rows, decided(line))
    assert message in str(error.value)


def test_a_label_that_is_no_column_of_a_feature_file(samples, decided):
    with pytest.raises(InputError, match="new_label 'fox' is no class of train.npz; it has 'cat'"):
        settled.samples(samples, decided("0,0,cat,relabel,fox"))


def test_no_fit_learns_from_dropped_rows(decided):
    """Probabilities, labels and contents are those of the other rows by themselves."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    features = 2 * torch.eye(2, 5)[labels] + torch.randn(40, 5, generator=generator)
    rows = Rows.of("photos", list(map(str, range(40))), ["cd"[label] for label in labels])
    gone = [3, 8, 30]
    rows = settled.rows(rows, decided(*(f"{row},{row},,drop," for row in gone)))
    kept = [row for row in range(40) if row not in gone]
    own = OwnHead(torch.zeros(40, 3), None)
    found = own_data.labelled_samples(rows, features, own, progress=False,
                                      content={"text": list(rows.names)})
    assert found.index.tolist() == kept and found.content["text"] == list(map(str, kept))
    assert {row.reason for row in found.left_out} == {DROPPED}
    alone = probe.cross_validate(features[kept], labels[kept], 2)
    torch.testing.assert_close(found.probs, alone.probs)


def test_other_dropped_rows_are_other_data(samples, decided):
    """Of the same labels: scores cached for the one must not be taken for the other's."""
    first, second = (settled.samples(samples, decided(f"{row},{row},cat,drop,")) for row in (0, 2))
    other = samples.derived(labels=torch.tensor([0, 1, 1, 1]))
    assert len({one.fingerprint for one in (samples, first, second, other)}) == 4
