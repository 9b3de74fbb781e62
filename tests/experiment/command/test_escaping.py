import csv

import numpy as np
import pytest
import torch

from experiment.command.escaping import cell, printable

pytestmark = pytest.mark.promise("names")


@pytest.mark.parametrize("text", [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(1)", "\t=1", "\r=1", " =1", "\x00=1",
    "\ufeff=1", "\u202e=1", "\uff1d1", "-name.jpg"])
def test_what_a_spreadsheet_would_compute_is_text(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=b", "1", "-1", "-0.5", "+1e-3", "-inf", "n01/a.JPEG",
                                  "מילה", "a\nb", 'say "yes"', "'quoted"])
def test_what_is_harmless_stays(text):
    assert cell(text) == text


def test_half_a_surrogate_pair_can_be_written():
    assert cell("a\udcff.jpg") == "a\\udcff.jpg"


@pytest.mark.parametrize("text, shown", [
    ("plain ü מילה", "plain ü מילה"), ("\x1b[2J", "\\x1b[2J"), ("a\nb\r", "a\\nb\\r"),
    ("\u202egpj.exe", "\\u202egpj.exe"), ("\udcff", "\\udcff"), ("\x9b1m", "\\x9b1m")])
def test_the_terminal_gets_no_control_characters(text, shown):
    assert printable(text) == shown


HOSTILE = ["=cmd()", "a,b", 'q"q', "two\nlines", "\x1b[31mred", "\u202eoverride", "x" * 300,
           "\udcff", "מילה", "-3", "../up", "<script>alert(1)</script>"]


def test_hostile_ids_class_names_and_groups_in_a_report(script, tmp_path, clusters):
    """Every row and number where it belongs, and nothing on screen that moves the cursor."""
    features, probs, labels, _ = clusters
    ids = [f"{HOSTILE[row % len(HOSTILE)]}{row}" for row in range(len(labels))]
    torch.save({"features": features, "probs": probs, "labels": labels, "ids": ids,
                "class_names": HOSTILE[:4]}, tmp_path / "train.pt")
    shown = script("detect.py", "--features", tmp_path / "train.pt", "--cache_dir", tmp_path).stdout
    assert "\x1b" not in shown and "\u202e" not in shown and "\\x1b[31mred4" in shown
    with open(tmp_path / "train/report/scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [cell(text) for text in ids]
    assert [int(row["given_label"]) for row in rows] == labels.tolist()
    with open(tmp_path / "train/report/suspects.csv", newline="", encoding="utf-8") as file:
        suspects = list(csv.DictReader(file))
    assert sorted(row["id"] for row in suspects) == sorted(map(cell, ids))
    assert {int(row["given_label"]) for row in suspects} == set(labels.tolist())
    assert {row["given_name"] for row in suspects} == set(map(cell, HOSTILE[:4]))
    page = (tmp_path / "train/report/report.html").read_bytes().decode("utf-8")
    assert "<script>alert" not in page
    scores = np.array([float(row["relation_score"]) for row in rows])
    assert (scores < 0).any()  # a negative number is no formula: no ' before it
    assert np.isfinite(scores).all()


def test_hostile_groups_of_outliers(script, tmp_path, clusters):
    features, probs, _, is_noisy = clusters
    torch.save({"features": features, "probs": probs}, tmp_path / "train.pt")
    torch.save({"features": features, "probs": probs, "is_ood": is_noisy,
                "group": ["=1+1" if odd else "\x1b[31mid" for odd in is_noisy]},
               tmp_path / "test.pt")
    done = script("detect_ood.py", "--features", tmp_path / "train.pt", "--test_features",
                  tmp_path / "test.pt", "--cache_dir", tmp_path)
    assert "\x1b" not in done.stdout
    with open(tmp_path / "test/report/scores.csv", newline="", encoding="utf-8") as file:
        assert {row["group"] for row in csv.DictReader(file)} == {"'=1+1", "\x1b[31mid"}
