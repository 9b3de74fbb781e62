"""A small convolutional network for 8 x 8 images."""

from torch import Tensor, nn

WIDTH = 32  # wide enough to memorise 1,797 images within 60 epochs


class DigitsNet(nn.Module):
    """images (N, 1, 8, 8) -> features (N, 256) -> logits (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten())
        self.head = nn.Linear(2 * WIDTH * 2 * 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))
