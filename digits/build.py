"""Train the network of one digits experiment and write everything that detection reads.

Checkpoint, targets and features in the published layout, every SAVE_EVERY epochs and at the last.
"""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from digits.data import INLIER_CLASSES, Part, parse, parts
from digits.models import DigitsNet
from experiment.command.errors import InputError
from experiment.files import writing

BATCH = 64
LEARNING_RATE = 2e-3
SAVE_EVERY = 10


def build(folder: Path, epoch: int, *, progress: bool = True) -> None:
    """Write checkpoint-<e>.pth, target.pt (target_val.pt) and features/feat_<part>_<e>.pt.

    As in the published experiments: cross-entropy without label smoothing, long enough to memorise
    most wrong labels. The learning rate is constant, so that epoch e does not depend on the length
    of the training, and there is one thread, so that the result does not depend on their number;
    about 20 seconds for 60 epochs. On one machine a name always gives the same files.

    Raises InputError for a folder whose name is no digits experiment.
    """
    variant = parse(folder.name)
    if epoch < 1:
        raise InputError(f"--name {folder.name}_{epoch}: expected an epoch of at least 1")
    data = parts(variant)
    _save_targets(folder, data)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant.seed)
        model = DigitsNet(10 if variant.noise else INLIER_CLASSES)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        for done in tqdm(range(1, epoch + 1), desc=f"training {folder.name}", unit=" epochs",
                         delay=1, disable=not progress):
            _train_epoch(model, optimizer, data["train"])
            if done % SAVE_EVERY == 0 or done == epoch:
                _save_epoch(folder, done, model, optimizer, data, variant.seed)


def _train_epoch(model: DigitsNet, optimizer: torch.optim.Optimizer, train: Part) -> None:
    for rows in torch.randperm(len(train.labels)).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(model(train.images[rows]), train.labels[rows]).backward()
        optimizer.step()


def _save_epoch(folder: Path, epoch: int, model: DigitsNet, optimizer: torch.optim.Optimizer,
                data: dict[str, Part], seed: int) -> None:
    with torch.no_grad():
        for name, part in data.items():
            writing.save(model.body(part.images), folder / f"features/feat_{name}_{epoch}.pt")
    writing.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch,
                "scaler": {}, "args": Namespace(batch_size=BATCH, lr=LEARNING_RATE, seed=seed)},
               folder / f"checkpoint-{epoch}.pth")


def _save_targets(folder: Path, data: dict[str, Part]) -> None:
    for name, file in {"train": "target.pt", "val": "target_val.pt"}.items():
        if name in data:
            writing.save({"idx_clean": torch.arange(len(data[name].labels)),
                        "targets": data[name].labels, "idx_chg": data[name].idx_chg},
                       folder / file)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
