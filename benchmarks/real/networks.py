"""The three regimes: what a model that was trained on the given labels says of its own rows."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

REGIMES = ("frozen", "brief", "memorised")
BRIEF = 8  # epochs: the loss still falls
MOST_EPOCHS = 100
MEMORISED = 0.995  # share of the given labels that the network reproduces
WIDTH = 128  # features of the last hidden layer
BATCH = 128
RATE = 2e-3


def frozen(encoded: np.ndarray, given: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's features (N, D) and a linear head's probabilities (N, C) on its own rows."""
    head = LogisticRegression(max_iter=300).fit(encoded, given)
    probs = np.zeros((len(given), classes), dtype=np.float32)
    probs[:, head.classes_] = head.predict_proba(encoded)
    return encoded, probs


def trained(inputs: np.ndarray, given: np.ndarray, classes: int, seed: int
            ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features (N, WIDTH) and probabilities (N, C) after BRIEF epochs, and once the network has
    memorised the given labels (or after MOST_EPOCHS), of one training run."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(inputs), torch.from_numpy(given)
    body = _convolutions(x.shape[1]) if x.dim() == 4 else _layers(x.shape[1])
    head = nn.Linear(WIDTH, classes)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=RATE, fused=True)
    found = {}
    for epoch in range(1, MOST_EPOCHS + 1):
        right = 0
        body.train()
        for rows in torch.randperm(len(y)).split(BATCH):
            if len(rows) == 1:  # batch normalisation has no variance of one row
                continue
            logits = head(body(x[rows]))
            loss = nn.functional.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += int((logits.argmax(1) == y[rows]).sum())
        if epoch == BRIEF:
            found["brief"] = _said(body, head, x)
        if epoch > BRIEF and right >= MEMORISED * len(y):
            break
    found["memorised"] = _said(body, head, x)
    return found


@torch.inference_mode()
def _said(body: nn.Module, head: nn.Module, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    body.eval()
    features = torch.cat([body(rows) for rows in x.split(512)])
    return features.numpy(), head(features).softmax(1).numpy()


def _layers(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, WIDTH), nn.ReLU())


def _convolutions(channels: int) -> nn.Module:
    """For images of 32 x 32."""
    layers = []
    for before, after in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                   nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, WIDTH), nn.ReLU())
