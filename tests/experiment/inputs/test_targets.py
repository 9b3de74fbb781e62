import numpy as np
import pytest
import torch

from experiment.command.errors import InputError
from experiment.inputs.targets import read_labels, read_targets

GOOD = {"idx_clean": np.array([0, 2, 5]), "targets": [1, 0, 1], "idx_chg": torch.tensor([2])}


def test_targets_in_any_of_the_published_types(tmp_path):
    torch.save(GOOD, tmp_path / "target.pt")
    targets = read_targets(tmp_path / "target.pt", need_rows=True)
    assert targets.rows.tolist() == [0, 2, 5] and targets.labels.tolist() == [1, 0, 1]
    assert targets.is_noisy.tolist() == [False, False, True]
    assert targets.rows.dtype == targets.labels.dtype == torch.int64


def test_no_changed_labels(tmp_path):
    torch.save(GOOD | {"idx_chg": []}, tmp_path / "target.pt")
    assert not read_targets(tmp_path / "target.pt", need_rows=True).is_noisy.any()


@pytest.mark.parametrize("change, message", [
    ({"idx_clean": [0, 1]}, "expected as many idx_clean as targets, got 2 and 3"),
    ({"idx_clean": [-1, 0, 1]}, "idx_clean: expected row numbers, got -1"),
    ({"idx_chg": [3]}, "idx_chg: expected positions from 0 to 2, got 3 to 3"),
    ({"targets": [0.5, 1, 2]}, "targets: expected a list of integers, got torch.float32"),
    ({"targets": ["a", "b", "c"]}, "targets: expected integers"),
    ({"targets": None}, "targets: expected integers"),
    ({"idx_clean": [], "targets": [], "idx_chg": []}, "targets: expected at least one"),
])
def test_wrong_targets(tmp_path, change, message):
    torch.save(GOOD | change, tmp_path / "target.pt")
    with pytest.raises(InputError, match=f"target.pt: {message}"):
        read_targets(tmp_path / "target.pt", need_rows=True)


@pytest.mark.parametrize("content", [torch.ones(3), {"targets": [1]},
                                     {"targets": [1], "idx_chg": [0]}])
def test_not_targets(tmp_path, content):
    torch.save(content, tmp_path / "target.pt")
    with pytest.raises(InputError, match="expected a dict with targets and idx_chg and idx_clean"):
        read_targets(tmp_path / "target.pt", need_rows=True)


def test_rows_are_read_only_where_they_are_needed(tmp_path):
    torch.save(GOOD | {"idx_clean": None}, tmp_path / "target.pt")
    assert read_targets(tmp_path / "target.pt").rows is None
    with pytest.raises(InputError, match="idx_clean: expected integers"):
        read_targets(tmp_path / "target.pt", need_rows=True)


def test_label_files(tmp_path):
    torch.save([3, 1, 2], tmp_path / "list.pt")
    torch.save(torch.tensor([3, 1, 2], dtype=torch.int32), tmp_path / "tensor.pt")
    np.save(tmp_path / "array.npy", np.array([3, 1, 2], dtype=np.uint16))
    (tmp_path / "lines.txt").write_text("3\n1\n2\n")
    for path in sorted(tmp_path.iterdir()):
        labels = read_labels(path)
        assert labels.tolist() == [3, 1, 2] and labels.dtype == torch.int64


@pytest.mark.parametrize("name, content, message", [
    ("a.csv", b"1\n", "expected a file of integers ending in .pt, .npy, .txt"),
    ("a.txt", b"1\nx\n", "not a readable file of integers"),
    ("a.txt", b"1 2\n3 4\n", r"expected a list of integers, got torch.int64 of shape \(2, 2\)"),
    ("a.npy", b"x", "not a readable .npy file"),
    ("a.pt", b"x", "not a readable tensor file"),
])
def test_wrong_label_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        read_labels(tmp_path / name)
