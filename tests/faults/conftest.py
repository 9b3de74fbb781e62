"""One small world for every kind of command, made once."""

import csv
import random
import signal

import numpy as np
import pandas
import pytest
import soundfile
import torch

from language import demo
from speech import models as speech_models
from tests.drive_server import LARGE, SMALL, DriveServer, Hosted
from tests.faults.commands import RUNNING, Command, contents
from tests.imagenet_files import random_model, write_tree

NEEDED_OF_ESC50 = ("audio_model_epoch25.pth", "feat_train_25.pt", "target_noisy0.1.pt")


def write_features(path, n=900, d=24, c=5, seed=0):
    draw = np.random.default_rng(seed)
    true = np.arange(n) % c
    labels = true.copy()
    labels[::15] = (labels[::15] + 1) % c
    np.savez(path, features=3 * np.eye(c, d)[true] + draw.normal(size=(n, d)) / 2,
             logits=4 * np.eye(c)[true] + draw.normal(size=(n, c)), labels=labels,
             is_noisy=labels != true)


def write_texts(folder):
    folder.mkdir()
    pairs = [(f"the {thing} of the {whole} is {word} .", label)
             for label, words in enumerate((("bad", "dull", "poor"), ("good", "great", "clever")))
             for word in words for thing in ("film", "plot", "song") for whole in ("cast", "end")]
    random.Random(0).shuffle(pairs)
    pandas.DataFrame(pairs, columns=["sentence", "label"]).to_csv(
        folder / "train.tsv", sep="\t", index=False)


def write_clips(folder, n=12):
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    draw, rows = np.random.default_rng(0), []
    for number in range(n):
        wave = np.sin(np.arange(4800) * 0.2 * (1 + number % 3)) / 4
        soundfile.write(folder / f"audio/{number}.wav", wave + draw.normal(size=4800) / 100, 16_000)
        rows.append((f"{number}.wav", number % 3))
    with open(folder / "meta/esc50.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filename", "target"), *rows])


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard():
    """What a script starts in the background has Ctrl-C ignored, and so has all that it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """A command that a failed test leaves behind would be waited for at the end of the session."""
    yield
    while RUNNING:
        RUNNING.pop().kill(group=True)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Inputs of all commands below."""
    root = tmp_path_factory.mktemp("world")
    write_features(root / "train.npz")
    write_features(root / "test.npz", n=300, seed=1)
    write_tree(root, "train", 8, 4)
    torch.save(random_model("test_resnet", 4).state_dict(), root / "weights.pth")
    write_texts(root / "texts")
    from language import data

    classifier = demo.tiny_roberta(data.load("sst2", "train", root / "texts"))
    classifier.model.save_pretrained(root / "roberta")
    classifier.tokenizer.save_pretrained(root / "roberta")
    write_clips(root / "clips")
    torch.manual_seed(0)
    network = speech_models.new(classes=3, frames=32, width=64, depth=1)
    network.model.save_pretrained(root / "ast")
    network.front_end.save_pretrained(root / "ast")
    return root


@pytest.fixture(scope="session")
def site():
    """Google Drive with the files of esc50, one of them larger than what is written at a time."""
    from experiment import published

    files = {name: Hosted(LARGE if "audio" in name else SMALL) for name in NEEDED_OF_ESC50}
    with DriveServer(files, published.PUBLISHED["esc50"].drive_id) as server:
        yield server


# name -> words of the command; WORLD is put in place of the folder of its inputs. Results go to
# the current folder.
WORDS = {
    "training digits": "download.py -n digits_noise0.08_8 --cache_dir results",
    "training texts": "language/train.py -t sst2 --clean --data_dir WORLD/texts --init "
                      "WORLD/roberta -n mine --epochs 6 --batch_size 8 --device cpu --max_length "
                      "16 --cache_dir results",
    "training sounds": "speech/train.py -t mine -n WORLD/ast --data_dir WORLD/clips --epochs 5 "
                       "--keep 2 4 --batch_size 4 --device cpu --cache_dir results",
    "extraction": "detect.py -n test_resnet --checkpoint WORLD/weights.pth --imagenet_dir WORLD "
                  "--batch_size 2 --workers 1 --device cpu --cache_dir results",
    "detection": "detect.py --features WORLD/train.npz --pow 4 --device cpu --cache_dir results",
    "outliers": "detect_ood.py --features WORLD/train.npz --test_features WORLD/test.npz --pow 1 "
                "--device cpu --cache_dir results",
    "download": "download.py -n esc50 --cache_dir results",
}
PATCHES = {"imagenet.features.RECORD_SECONDS": 0, "experiment.files.drive.RETRIES": 1}


@pytest.fixture(params=WORDS)
def command(request, world, site, tmp_path):
    """A function that starts the command in a folder; its name as `command.name`."""
    words = WORDS[request.param].replace("WORLD", str(world)).split()

    def start(cwd=tmp_path, **options):
        port = site.port if request.param == "download" else None
        return Command(cwd, *words, patches=PATCHES | options.pop("patches", {}), port=port,
                       **options)
    start.name = request.param
    return start


@pytest.fixture(scope="session")
def undisturbed_results():
    return {}


@pytest.fixture
def undisturbed(command, undisturbed_results, tmp_path_factory):
    """What the command writes when nothing happens, and the seconds it takes."""
    if command.name not in undisturbed_results:
        cwd = tmp_path_factory.mktemp("undisturbed")
        command(cwd).done()
        again = tmp_path_factory.mktemp("again")
        seconds = command(again).done()
        found = contents(cwd / "results")
        assert found == contents(again / "results") and found
        undisturbed_results[command.name] = found, seconds
    return undisturbed_results[command.name]
