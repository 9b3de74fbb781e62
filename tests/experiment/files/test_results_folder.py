import json

import numpy as np
import pytest

from experiment import published
from experiment.command.errors import InputError
from experiment.files import results_folder as whose
from experiment.files.results_folder import results_folder


def test_data_of_one_name_have_folders_of_their_own(tmp_path, capsys):
    results, sources = tmp_path / "results", []
    for name in ("a/train", "b/train", "c/.train"):
        (tmp_path / name).mkdir(parents=True)
        sources.append(tmp_path / name)
    for name in ("train.npz", "train.csv", "d.train/x.npz", "train.tar.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        sources.append(tmp_path / name)
    folders = [results_folder(results, source) for source in sources]
    assert folders[0] == results / "train" and len(set(folders)) == 7
    assert all(folder.is_dir() and folder.parent == results for folder in folders)
    said = capsys.readouterr().out
    assert (f"{folders[0]}: holds results of {sources[0]}; those of {sources[1]} go to "
            f"{folders[1]}") in said
    assert [results_folder(results, source) for source in sources] == folders
    assert results_folder(results, tmp_path / "b/../a/train") == folders[0]
    assert not list(results.rglob("*.part"))


@pytest.mark.parametrize("name", ["...npz", "..npz", ".npz"])
def test_no_name_leads_out(tmp_path, name):
    assert results_folder(tmp_path, tmp_path / name).parent == tmp_path


def test_results_from_before_the_folders_said_whose_they_are(tmp_path):
    for name in ("photos", "other"):
        (tmp_path / f"results/{name}/report").mkdir(parents=True)
        (tmp_path / f"results/{name}/report/metrics.json").write_text(json.dumps(
            {"data": {"source": str(tmp_path / "photos")}}))
    assert results_folder(tmp_path / "results", tmp_path / "photos") == tmp_path / "results/photos"
    assert results_folder(tmp_path / "results", tmp_path / "other").name.startswith("other-")


def test_the_folder_of_an_experiment_is_not_ones_own(tmp_path, capsys):
    (tmp_path / "results/resnet50/features").mkdir(parents=True)
    folder = results_folder(tmp_path / "results", tmp_path / "resnet50")
    assert folder.name.startswith("resnet50-")
    assert "results/resnet50: holds results of something else" in capsys.readouterr().out
    published.find("resnet50", "imagenet", tmp_path / "results")
    results_folder(tmp_path / "results", tmp_path / "convnext_tiny")
    with pytest.raises(InputError, match="convnext_tiny: holds results of .*convnext_tiny"):
        published.find("convnext_tiny", "imagenet", tmp_path / "results")


def test_a_damaged_note_and_a_killed_claim(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / f"photos/{whose.ORIGIN}.1234.part").touch()
    assert results_folder(tmp_path, tmp_path / "data/photos") == tmp_path / "photos"
    (tmp_path / f"photos/{whose.ORIGIN}").write_text("{")
    assert results_folder(tmp_path, tmp_path / "data/photos") == tmp_path / "photos"


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_where_links_or_writing_are_refused(tmp_path, monkeypatch, error):
    def refuse(*paths, **how):
        raise error("no")
    monkeypatch.setattr(whose.os, "link", refuse)
    assert results_folder(tmp_path, tmp_path / "a/train") == tmp_path / "train"
    assert results_folder(tmp_path, tmp_path / "b/train") != tmp_path / "train"
    monkeypatch.setattr(whose.Path, "mkdir", refuse)  # nothing is written, nor overwritten
    assert results_folder(tmp_path, tmp_path / "new") == tmp_path / "new"


def test_two_reports_stay(script, tmp_path):
    """detect.py on a/train.npz and b/train.npz, as users call their files."""
    draw = np.random.default_rng(0)
    for name, rows in (("a", 20), ("b", 30)):
        (tmp_path / name).mkdir()
        labels = np.arange(rows) % 2
        np.savez(tmp_path / name / "train.npz", labels=labels,
                 features=draw.normal(size=(rows, 4)).astype(np.float32),
                 logits=np.eye(2, dtype=np.float32)[labels])
        shown = script("detect.py", "--features", tmp_path / name / "train.npz", "--cache_dir",
                       tmp_path / "results").stdout
    other = next(path for path in (tmp_path / "results").iterdir() if path.name != "train")
    assert f"written to {other}/report" in shown
    for folder, rows in ((tmp_path / "results/train", 20), (other, 30)):
        assert json.loads((folder / "report/metrics.json").read_text())["data"]["n"] == rows
