"""detect_ood.py on the published layouts and on images, by its command line."""

import csv
import json

import numpy as np
import pytest
import torch

from tests.dense import dense_relation, dense_sums
from tests.imagenet_files import planted, random_model, write_checkpoint, write_ood, write_tree

CLASSES, DIM = 5, 24


def read(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return table, json.loads((folder / "metrics.json").read_text())


@pytest.fixture(params=["mae_large_49", "resnet50"])
def published(request, tmp_path):
    """A published folder with 250 training, 60 validation and 20 OOD rows, labels beside it.

    Returns the words of the command line, the folder, and train, test, weight, bias.
    """
    train, weight, bias, labels = planted(250, DIM, CLASSES)
    val = planted(60, DIM, CLASSES, seed=1)[0]
    ood = torch.randn(20, DIM, generator=torch.Generator().manual_seed(2))
    name, suffix = request.param, "_49" if request.param.startswith("mae") else ""
    folder = tmp_path / name.removesuffix("_49")
    (folder / "features").mkdir(parents=True)
    for part, rows in {"train": train, "val": val, "ood": ood}.items():
        torch.save(rows, folder / f"features/feat_{part}{suffix}.pt")
    torch.save(labels, tmp_path / "labels.pt")
    words = ["detect_ood.py", "-n", name, "--cache_dir", tmp_path, "--train_labels",
             tmp_path / "labels.pt", "--imagenet_dir", tmp_path / "none", "--ood_dir",
             tmp_path / "none"]
    if suffix:
        write_checkpoint(folder / "checkpoint-49.pth", {"head.weight": weight, "head.bias": bias})
    else:
        torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "resnet50.pth")
        words += ["--checkpoint", tmp_path / "resnet50.pth"]
    return words, folder, train, torch.cat([val, ood]), weight, bias


@pytest.mark.parametrize("options, hop, tolerance", [
    (["--pow", "1"], 1, 1e-5), (["--pow", "1", "--hop", "4", "--chunk", "9"], 4, 1e-5),
    (["--pow", "1", "--dtype", "float16"], 1, 5e-3)])
def test_published_files(script, published, options, hop, tolerance):
    words, folder, train, test, weight, bias = published
    shown = script(*words, *options, "--ood_groups", "places:15,dtd:5").stdout
    table, metrics = read(folder / "report")
    probs, train_probs = (torch.softmax(rows @ weight.T + bias, 1) for rows in (test, train))
    s = dense_sums(dense_relation(test, probs, None, train[::hop], train_probs[::hop]),
                   temperature=1)
    score = np.array([float(row["relation_score"]) for row in table])
    np.testing.assert_allclose(1 / score, s + 1e-6, atol=tolerance * s.max())
    logits = (test @ weight.T + bias).numpy()
    np.testing.assert_allclose([float(row["MaxLogit"]) for row in table], -logits.max(1),
                               rtol=1e-5)
    assert [row["is_ood"] for row in table] == ["False"] * 60 + ["True"] * 20
    assert [row["group"] for row in table] == ["id"] * 60 + ["places"] * 15 + ["dtd"] * 5
    assert {row["name"] for row in metrics["rows"]} >= {"ReAct", "Mahalanobis", "KNN"}
    figures = {row["group"]: row for row in metrics["rows"] if row["name"] == "relation"}
    assert set(figures) == {"all", "places", "dtd"}
    assert all(row["auroc"] > 0.95 for row in figures.values())
    assert "left out" not in shown


def test_without_training_labels(script, published):
    words, folder, *_ = published
    at = words.index("--train_labels")
    shown = script(*words[:at], *words[at + 2:], "--verbose", "False").stdout
    assert "note: training labels unknown" in shown
    assert "note: Mahalanobis is left out: " in shown
    assert "Mahalanobis" not in {row["name"] for row in read(folder / "report")[1]["rows"]}


def test_from_images_to_report(script, tmp_path):
    write_tree(tmp_path / "imagenet", "train", per_class=3, classes=4)
    write_tree(tmp_path / "imagenet", "val", per_class=2, classes=4)
    write_ood(tmp_path / "ood", sizes=(3, 2, 2, 3))
    torch.save(random_model("test_vit", 4).state_dict(), tmp_path / "weights.pth")
    script("detect_ood.py", "-n", "test_vit", "--checkpoint", tmp_path / "weights.pth",
           "--cache_dir", tmp_path, "--imagenet_dir", tmp_path / "imagenet", "--ood_dir",
           tmp_path / "ood", "--workers", 1, "--batch_size", 8)
    table, metrics = read(tmp_path / "test_vit/report")
    assert len(table) == 8 + 10 and all(np.isfinite(float(row["ReAct"])) for row in table)
    assert {row["group"] for row in metrics["rows"]} == {"all", "places", "sun", "inat", "dtd"}
    assert table[-1]["id"].endswith(".jpg")
