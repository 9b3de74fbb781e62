"""The torch device that --device names."""

import torch

from experiment.command.errors import InputError


def find_device(name: str) -> torch.device:
    """auto is the first GPU, or else the CPU; InputError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: {torch.cuda.device_count()} CUDA devices were found")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: not available on this machine")
    return device
