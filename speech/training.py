"""Fine-tuning on noisy labels, epoch by epoch; a killed run resumes after the last epoch.

Each chosen epoch writes audio_model_epoch<e>.pth and feat_train_<e>.pt, in the published form;
training.pt, written after every epoch, is the checkpoint to resume from.
N clips, T frames, B bins.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from experiment.command.errors import InputError
from experiment.command.escaping import printable
from experiment.files import reading, writing
from speech import data, features, models
from speech.data import Clips
from speech.models import Network
from speech.recipe import Recipe

BETAS = (0.95, 0.999)
WEIGHT_DECAY = 5e-7
READ = 64  # clips whose filter banks are made at a time
DECAY = 0.85  # of the learning rate per epoch, once it falls


def fit(network: Network, clips: Clips, labels: Tensor, folder: Path, recipe: Recipe, *,
        device: torch.device | str, progress: bool) -> None:
    """Train on clips and their labels (N,); write networks and features of `recipe.keep` and of the
    last epoch to `folder`.

    Model inputs stay in memory: 0.25 MiB a clip of 512 frames, 0.4 GiB for ESC-50.
    """
    writing.check_writable(folder)
    inputs = _inputs(network, clips, progress)
    for note in data.mixing_notes(clips.files):
        print(f"note: {printable(note)}")
    held_out = data.read_clips(clips.folder, held_out=True)
    held_out_inputs = _inputs(network, held_out, progress)
    with writing.locked(folder):
        for epoch, loss in epochs(network, inputs, labels, folder / "training.pt", recipe,
                                  device=device, progress=progress):
            line = f"epoch {epoch:2} of {recipe.epochs}: loss {loss:.3f}"
            if epoch in (*recipe.keep, recipe.epochs):
                _keep(network, inputs, folder, epoch, recipe, device)
                if len(held_out):
                    found = features.extract(network, held_out_inputs.split(recipe.clips_per_pass),
                                             device=device)["logit"].argmax(1)
                    right = (found == held_out.labels).float().mean()
                    line += f", {right:.1%} of the {len(held_out)} held-out clips right"
            if progress:
                print(line, flush=True)
        if not (folder / f"audio_model_epoch{recipe.epochs}.pth").is_file():
            # A finished run whose last network was removed.
            _keep(network, inputs, folder, recipe.epochs, recipe, device)


def epochs(network: Network, inputs: Tensor, labels: Tensor, state_file: Path, recipe: Recipe, *,
           device: torch.device | str, progress: bool) -> Iterator[tuple[int, float]]:
    """Train on inputs (N, T, B) and labels (N,); yields each epoch and its mean loss.

    Adam on the cross-entropy; order and masks of an epoch depend on seed and epoch alone. When the
    caller asks for the next epoch, the state is written to `state_file`; a later call resumes there
    and ends with the same weights as an uninterrupted run. Raises InputError if the file is from
    other settings or data.
    """
    model = network.model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, betas=BETAS,
                                 weight_decay=WEIGHT_DECAY)
    digest = hashlib.sha256(inputs.numpy())
    digest.update(labels.numpy())
    origin = asdict(recipe) | {"data": digest.hexdigest()}
    del origin["clips_per_pass"]  # changes rounding only: may be reduced to resume
    done = steps = 0
    if state_file.is_file():
        done, steps = _resume(network, optimizer, state_file, origin)
        print(f"{state_file}: resuming after epoch {done}, step {steps}")
    for epoch in range(done + 1, recipe.epochs + 1):
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * DECAY ** max(0, epoch - recipe.decay_after)
        model.train()
        total = 0.0
        order = torch.randperm(len(labels), generator=generator).split(recipe.batch_size)
        for rows in tqdm(order, f"epoch {epoch}", delay=1, disable=not progress, leave=False):
            batch = masked(inputs[rows], recipe, network, generator)
            total += _step(network, optimizer, batch.to(device), labels[rows].to(device),
                           clips_per_pass=recipe.clips_per_pass)
            steps += 1
        yield epoch, total / len(labels)
        writing.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "epoch": epoch, "steps": steps, "origin": origin}, state_file)


def masked(inputs: Tensor, recipe: Recipe, network: Network, generator: torch.Generator) -> Tensor:
    """SpecAugment: in each clip one band of bins and one span of frames take the value of padding.

    Widths are uniform up to the recipe's, and so are positions (Park et al. 2019).
    """
    front_end = network.front_end
    padding = (0 - front_end.mean) / (2 * front_end.std)
    for axis, widest in ((2, recipe.frequency_mask), (1, recipe.time_mask)):
        n, size = len(inputs), inputs.shape[axis]
        width = (torch.rand(n, 1, generator=generator) * min(widest, size)).floor()
        first = (torch.rand(n, 1, generator=generator) * (size - width)).floor()
        at = torch.arange(size)
        hidden = (at >= first) & (at < first + width)
        inputs = inputs.masked_fill(hidden.unsqueeze(3 - axis), padding)
    return inputs


def _keep(network: Network, inputs: Tensor, folder: Path, epoch: int, recipe: Recipe,
          device: torch.device | str) -> None:
    writing.save(models.to_published(network.model), folder / f"audio_model_epoch{epoch}.pth")
    path = folder / f"feat_train_{epoch}.pt"
    content = features.extract(network, inputs.split(recipe.clips_per_pass), device=device)
    path.with_suffix(".json").unlink(missing_ok=True)  # of features extracted earlier
    writing.save(content, path)


def _step(network: Network, optimizer: torch.optim.Optimizer, batch: Tensor, labels: Tensor, *,
          clips_per_pass: int) -> float:
    """One step on the mean loss of a batch; returns the summed loss."""
    optimizer.zero_grad()
    total = 0.0
    for part, given in zip(batch.split(clips_per_pass), labels.split(clips_per_pass)):
        loss = cross_entropy(network(part)[1], given, reduction="sum")
        (loss / len(batch)).backward()
        total += loss.item()
    optimizer.step()
    return total


def _resume(network: Network, optimizer: torch.optim.Optimizer, state_file: Path, origin: dict
            ) -> tuple[int, int]:
    state = reading.load(state_file)
    found = state.get("origin", {}) if isinstance(state, dict) else {}
    other = [key for key in origin if found.get(key) != origin[key]]
    if other:
        raise InputError(f"{state_file}: was begun with another {', '.join(other)}; remove it to "
                         f"start afresh")
    network.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"], state["steps"]


def _inputs(network: Network, clips: Clips, progress: bool) -> Tensor:
    """Model inputs (N, T, B), in memory."""
    front_end = network.front_end
    inputs = torch.empty(len(clips), front_end.max_length, front_end.num_mel_bins)
    batches = features.filter_banks(clips.files, front_end, batch_size=READ, progress=progress)
    for rows, batch in zip(torch.arange(len(clips)).split(READ), batches):
        inputs[rows] = batch
    return inputs
