"""The model that all hospitals share."""

from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions and a linear head; images in [0, 1], (B, 1, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(16 * 8 * 8, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, 2)."""
        return self.head(self.body(images))
