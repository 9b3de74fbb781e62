"""Experiment names: what each stands for, where its files lie, which domain loads them.

A domain of the root's scripts, imagenet or digits, is a package with a module `samples` that holds

    load_train(folder, epoch, extraction) -> Samples     given labels, is_noisy where known
    load_val(folder, epoch, extraction) -> Samples       the validation set to be cleaned
    load_ood(folder, epoch, extraction) -> (Samples, Samples)
                                            training rows; test rows with is_ood and group

(`extraction`: experiment.inputs.extraction.Extraction, the options)
and is imported only when one of its experiments is asked for.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from experiment.command.errors import InputError
from experiment.command.option_types import FOLDER_NAME
from experiment.files.drive_folder import Published
from experiment.files.results_folder import owner_of

ROOT = Path(__file__).resolve().parents[1]
DIGITS_NAMES = "digits_60, digits_noise<R>[_pair][_seed<S>]_<epoch> (say digits_noise0.08_60)"


PUBLISHED = {
    "mae_large_noise0.08_49": Published(
        "1hkroHQ4DZwAQ6OBmevljMB1DO3k0cmxv", "6.3 GB", "imagenet", ROOT / "results",
        "mae_large_noise0.08",
        ("checkpoint-49.pth", "target.pt", "features/feat_train_49.pt")),
    "mae_large_49": Published(
        "1v-2w2dGRXcldGsMoOK442xBR0-AysKKJ", "6.4 GB", "imagenet", ROOT / "results", "mae_large",
        ("checkpoint-49.pth", "features/feat_train_49.pt", "features/feat_val_49.pt",
         "features/feat_ood_49.pt")),
    "resnet50": Published(  # features twice as wide: --chunk is at most settings.RESNET_CHUNK
        "13LuABuXfWBhFFgIM7wyWQB7jQBtTGiKV", "11 GB", "imagenet", ROOT / "results", "resnet50",
        ("features/feat_train.pt", "features/feat_val.pt", "features/feat_ood.pt")),
    "sst2": Published(
        "1N-Do1tol7SSOng7Wv2PgCigZSmXLc1aY", "680 MB", "language", ROOT / "language/results",
        "sst2", ("target0.1_large_4.pt", "roberta-base_fp16_noise0.1/config.json",
                 "roberta-base_fp16_noise0.1/epoch_4/feat_train.pt")),
    "mnli": Published(
        "12RIvatQbpzyuowpRuCANeRb-XhwPOcHw", "1.7 GB", "language", ROOT / "language/results",
        "mnli", ("target0.1_large_4.pt", "roberta-base_fp16_noise0.1/config.json",
                 "roberta-base_fp16_noise0.1/epoch_4/feat_train.pt")),
    "esc50": Published(
        "1OkM5YV2zQmoR6ZyLX0tPN9Y0ah_COi2Z", "338 MB", "speech", ROOT / "speech/results", ".",
        ("audio_model_epoch25.pth", "feat_train_25.pt", "target_noisy0.1.pt")),
}


def known() -> str:
    """One line for each experiment that download.py downloads."""
    lines = [f"  {name:24}{published.size:>7}, {published.domain}"
             for name, published in PUBLISHED.items()]
    return "\n".join([*lines, f"  {DIGITS_NAMES}: built here, no download"])


@dataclass(frozen=True)
class Experiment:
    domain: str
    folder: Path
    epoch: int | None  # None: files carry no epoch

    def saved_epochs(self) -> list[int]:
        """The epochs up to its own whose training features lie in the folder, ascending."""
        names = (path.stem.removeprefix("feat_train_")
                 for path in (self.folder / "features").glob("feat_train_*.pt"))
        saved = sorted(int(name) for name in names if name.isdecimal())
        return [] if self.epoch is None else [epoch for epoch in saved if epoch <= self.epoch]


def find(name: str, dataset: str, cache_dir: Path, epoch: int | None = None) -> Experiment:
    """Domain, folder and epoch of an experiment of the root's scripts.

    Of names that start with `mae` or `digits` the part after the last `_` is the epoch and the
    rest the folder; others are the folder as a whole. `epoch` overrides the name's.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise InputError(f"--name {name[:100]!r}: expected letters, digits, '.', '_' and '-' only, "
                         f"at most 100 of them")
    if dataset == "digits" and not name.startswith("digits"):
        raise InputError(f"--name {name}: expected {DIGITS_NAMES} with --dataset digits")
    folder = name
    if name.startswith(("mae", "digits")):
        folder, _, last = name.rpartition("_")
        if not folder or not last.isdecimal() or len(last) > 9:
            raise InputError(f"--name {name}: expected an epoch after the last '_', "
                             f"as in mae_large_49 or digits_noise0.08_60")
        epoch = int(last) if epoch is None else epoch
    owner = owner_of(cache_dir / folder)
    if owner is not None:
        raise InputError(f"{cache_dir / folder}: holds results of {owner}, not of an experiment; "
                         f"rename that folder, or give another --cache_dir")
    return Experiment("digits" if name.startswith("digits") else dataset, cache_dir / folder, epoch)


def loader(domain: str) -> ModuleType:
    """The `samples` module of a domain: imagenet or digits."""
    return importlib.import_module(f"{domain}.samples")
