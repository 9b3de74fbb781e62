"""Small stand-ins for what ImageNet's users have: image folders, checkpoints, published layouts."""

from argparse import Namespace
from functools import cache

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import RealLabelsImagenet

from imagenet.real_labels import VAL_ROWS


def write_image(path, seed, size=(48, 40)):
    """A JPEG with some structure: noise of 6 x 5 pixels, enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


def write_tree(root, split, per_class, classes=4):
    """root/<split>/n0000000<c>/…JPEG; validation images carry names whose ReaL labels are known.

    In each class of val the images are, in order: clean, then diff, then none, as many as fit.
    """
    names = {}
    for label in range(classes):
        folder = root / split / f"n{label:08}"
        files = [f"n{label:08}_{i}.JPEG" for i in range(per_class)]
        if split == "val":
            files = sorted(val_names(label)[:per_class])
        for i, file in enumerate(files):
            write_image(folder / file, seed=1000 * label + i)
        names[label] = files
    return names


@cache
def val_names(label):
    """Names in val/ that ReaL calls clean, diff and none for an image of this (unjoined) class."""
    real = RealLabelsImagenet(range(VAL_ROWS)).real_labels
    clean = [name for name, seen in real.items() if seen == [label]]
    other = [name for name, seen in real.items() if seen == [label + 10]]
    none = [name for name, seen in real.items() if not seen][10 * label:]
    return [name for triple in zip(clean, other, none) for name in triple]


def write_ood(root, sizes=(3, 2, 2, 3)):
    for seed, (folder, size) in enumerate(zip(
            ("Places/images", "SUN/images", "iNaturalist/images", "dtd/images/dotted"), sizes)):
        for i in range(size):
            write_image(root / folder / f"{folder[0]}{i}.jpg", seed=10_000 * (seed + 1) + i)


def write_checkpoint(path, model):
    """As the published training code writes it: the weights under "model", among other things."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model, "optimizer": {"state": {}, "param_groups": []}, "epoch": 49,
                "scaler": {"scale": 65536.0}, "args": Namespace(model="vit", lr=1e-3)}, path)


def random_model(architecture, classes, seed=0, **options):
    """Weights of a size at which each layer matters."""
    torch.manual_seed(seed)
    model = timm.create_model(architecture, num_classes=classes, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "head" in name or "fc.weight" in name:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model


def planted(n, dim, classes, seed=0):
    """features (n, dim), weight and bias of a head that tells the classes, labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) * classes // n
    features = 3 * torch.eye(dim)[labels] + 0.4 * torch.randn(n, dim, generator=generator)
    weight = torch.eye(classes, dim) + 0.05 * torch.randn(classes, dim, generator=generator)
    return features, weight, 0.1 * torch.randn(classes, generator=generator), labels
