"""The model that all hospitals share."""

from torch import Tensor, nn


class Net(nn.Module):
    """One convolution and a linear head; images in [0, 1], (B, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.GELU(), nn.Flatten())
        self.head = nn.Linear(8 * 12 * 12, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, 2)."""
        return self.head(self.body(images))
