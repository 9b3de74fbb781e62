import csv
import json
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.conftest import ROOT


def report(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def published(tmp_path):
    """Features of 200 clips in 5 classes far apart, in the published form; 10 labels wrong."""
    torch.manual_seed(0)
    true = torch.arange(200) % 5
    labels = true.clone()
    labels[:10] = (labels[:10] + 1) % 5
    folder = tmp_path / "cache"
    folder.mkdir()
    torch.save({"feat": 3 * torch.eye(16)[true] + 0.3 * torch.randn(200, 16),
                "logit": 4 * torch.eye(5)[true]}, folder / "feat_train_25.pt")
    torch.save({"targets": labels, "idx_chg": torch.arange(10)}, folder / "target_noisy0.1.pt")
    return folder


@pytest.mark.parametrize("cwd, process", [(ROOT, False), (ROOT / "speech", False),
                                          (ROOT / "speech", True)])
def test_detect_on_published_files(script, published, cwd, process):
    shown = script("speech/detect.py", "--cache_dir", published, cwd=cwd, process=process).stdout
    rows, metrics = report(published / "report")
    assert {row["index"] for row in rows if int(row["rank"]) <= 10} == set("0123456789")
    by_name = {row["name"]: row["ap"] for row in metrics["rows"]}
    assert by_name["relation"] == 1
    settings = metrics["settings"]
    assert (settings["pow"], settings["chunk"], settings["reg"]) == (8, 200, 0.05)
    assert (settings["task_name"], settings["model_name"], settings["epoch"]) == \
        ("esc50", "ast", 25)
    assert "TNR95" in shown and (published / "graph_cos_p_pow8.pt").is_file()


@pytest.mark.parametrize("words, message", [
    (["-e", "7"], "neither feat_train_7.pt nor audio_model_epoch7.pth; there are epochs 25"),
    (["-t", "demo"], "demo/target_noisy0.1.pt: no such file"),
    (["-t", "a/b"], "argument -t/--task_name: expected letters, digits"),
    (["-n", "resnet", "--data_dir", "nowhere"], "nowhere/meta/esc50.csv: no such file"),
    (["-n", "resnet"], "resnet: to extract features with this model name the folder of the clips"),
    (["--pow", "-1"], "argument --pow: expected a number above 0"),
])
def test_wrong_options_get_one_line(refused, published, words, message):
    before = sorted(published.iterdir())
    line = refused("speech/detect.py", "--cache_dir", published, *words)
    assert line.startswith("detect.py: error: ") and message in line
    assert sorted(published.iterdir()) == before


def test_detect_extracts_with_the_task_s_model(script, folder, clips):
    clip_folder = clips(10)
    torch.save({"targets": torch.tensor([1, 1, 2, 2, 0, 1]), "idx_chg": [0]},
               folder / "target_noisy0.1.pt")
    script("speech/detect.py", "--cache_dir", folder, "--data_dir", clip_folder)
    rows, metrics = report(folder / "report")
    assert [row["id"] for row in rows] == [f"{n}.wav" for n in (0, 1, 2, 5, 6, 7)]
    assert metrics["data"]["dim"] == 64 and (folder / "feat_train_25.pt").is_file()


def test_detect_with_any_ast_folder_and_one_s_own_clips(script, tmp_path, ast_folder, clips):
    shown = script("speech/detect.py", "-t", "mine", "-n", ast_folder, "--data_dir", clips(10),
                   "--cache_dir", tmp_path).stdout
    rows, metrics = report(tmp_path / "mine/my_ast/report")
    assert len(rows) == 6 and metrics["rows"] == []
    assert "no truth in the data" in shown


def test_a_wrong_clip_ends_extraction_in_one_line(refused, folder, clips):
    clip_folder = clips(10)
    (clip_folder / "audio/5.wav").write_bytes(b"")
    line = refused("speech/detect.py", "--cache_dir", folder, "--data_dir", clip_folder,
                   "--verbose", "False")
    assert f"{clip_folder}/audio/5.wav: an empty file" in line
    assert not (folder / "feat_train_25.pt").exists() and not (folder / "report").exists()


def test_wrong_weights_end_extraction_in_one_line(refused, tmp_path, ast_folder, clips):
    with safe_open(ast_folder / "model.safetensors", framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys() if "layernorm" not in name}
    save_file(state, ast_folder / "model.safetensors", metadata={"format": "pt"})
    line = refused("speech/detect.py", "-t", "mine", "-n", ast_folder, "--data_dir", clips(10),
                   "--cache_dir", tmp_path)
    assert "my_ast: the weights lack audio_spectrogram_transformer.layernorm.bias (8 tens" in line


def test_train_then_detect(script, tmp_path, clips, ast_folder):
    clip_folder = clips(20)
    words = "speech/train.py", "-t", "mine", "-n", ast_folder, "--data_dir", clip_folder, \
        "--cache_dir", tmp_path, "--epochs", 3, "--keep", 1, "--batch_size", 5
    shown = script(*words).stdout
    assert "epoch  3 of 3: loss " in shown and "of the 8 held-out clips right" in shown
    assert "next  python speech/detect.py -t mine -e 3" in shown
    script("speech/detect.py", "-t", "mine", "-e", 3, "--cache_dir", tmp_path, "--data_dir",
           clip_folder)
    rows, _ = report(tmp_path / "mine/report")
    assert [row["is_noisy"] for row in rows].count("True") == 1
    assert "resuming after epoch 3, step 9" in script(*words).stdout


def test_train_on_labels_as_given(script, refused, tmp_path, clips, ast_folder):
    words = "speech/train.py", "-t", "mine", "-n", ast_folder, "--data_dir", clips(10), \
        "--as_given", "--cache_dir", tmp_path, "--epochs", 1, "--verbose", "False"
    script(*words)
    assert not (tmp_path / "mine/target_noisy0.1.pt").exists()
    assert (tmp_path / "mine/feat_train_1.pt").is_file()
    torch.save({}, tmp_path / "mine/target_noisy0.1.pt")
    assert "target_noisy0.1.pt holds other labels; remove it" in refused(*words)


def test_train_without_weights(refused, tmp_path, clips, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = refused("speech/train.py", "--data_dir", clips(10), "--cache_dir", tmp_path)
    assert "MIT/ast-finetuned-audioset-10-10-0.4593: cannot be loaded as an AST (" in line


@pytest.mark.parametrize("name, option", [("detect", "--chunk"), ("download", "--task_name"),
                                          ("train", "--as_given")])
def test_help_answers_without_the_heavy_libraries(name, option):
    code = (f"import sys, runpy; sys.argv = ['{name}.py', '--help']\n"
            f"try: runpy.run_path('{name}.py', run_name='__main__')\n"
            f"except SystemExit: pass\n"
            f"heavy = {{'torch', 'transformers', 'numpy', 'soundfile'}} & set(sys.modules)\n"
            f"assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "speech", capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_published_defaults():
    args = runpy.run_path(str(ROOT / "speech/detect.py"))["get_args_parser"]().parse_args([])
    assert args.cache_dir.resolve() == ROOT / "speech/results"
    published = {"task_name": "esc50", "model_name": "ast", "epoch": 25, "hop": 1, "pow": 8,
                 "kernel": "cos_p", "reg": 0.05, "chunk": 200, "dtype": "float32", "verbose": True}
    assert vars(args) | published == vars(args)


def test_the_readme_s_commands_parse():
    text = (ROOT / "speech/README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python (speech/\w+\.py.*)$", text, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        script, *words = shlex.split(command, comments=True)
        runpy.run_path(str(ROOT / script))["get_args_parser"]().parse_args(words)


def test_download_asks_drive_for_the_published_folder(script, tmp_path, monkeypatch):
    from experiment.files import drive

    asked = []
    monkeypatch.setattr(drive, "fetch", lambda *args, **kwargs: asked.append((args, kwargs)))
    script("speech/download.py", "--cache_dir", tmp_path, "--verbose", "False")
    (published, cache_dir), how = asked[0]
    assert published.drive_id == "1OkM5YV2zQmoR6ZyLX0tPN9Y0ah_COi2Z"
    assert cache_dir == tmp_path and how == {"progress": False}


@pytest.mark.slow  # a minute: trains the demo's network
def test_demo(script, tmp_path):
    script("speech/download.py", "-t", "demo", "--cache_dir", tmp_path, process=True)
    shown = script("speech/detect.py", "-t", "demo", "--cache_dir", tmp_path, process=True).stdout
    rows, metrics = report(tmp_path / "demo/report")
    ap = {row["name"]: row["ap"] for row in metrics["rows"]}
    print(shown)
    assert len(rows) == 800 and [row["is_noisy"] for row in rows].count("True") == 80
    assert ap["relation"] > 0.6 and ap["loss"] > 0.5  # chance is 0.1
