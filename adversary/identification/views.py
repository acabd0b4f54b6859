"""What the network saw of an image where clients transform or blend what they train on.

An image then adds to the update what the network saw of it, of which the server knows the
distribution alone. Its expectation takes the place of the image's own part: the mean over views,
each drawn as the defence draws. How views differ goes into the regression as a random effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import scipy
import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.observation.channel import Channel

Examples = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and targets (N, outputs)."""

VIEWS = 4
"""Of each image at each point of the path."""


@dataclass(frozen=True, eq=False)
class Views:
    """The views of images in an update.

    Parameters
    ----------
    channel : Channel
        Of which the policy of augmentation and the blending count.
    company : tuple of Tensor
        Public images and their targets: partners in blends.
    seed : int
        Chooses the partners, the same for all images asked about: what partners add is then the
        same for all of them and tells nobody from another.
    """

    channel: Channel = field(default_factory=Channel)
    company: Examples | None = None
    seed: int = 0

    @property
    def count(self) -> int:
        """How many there are of an image at a point."""
        return VIEWS if self.channel.blend or self.channel.transform else 1

    def of(
        self, examples: Examples, point: int, draws: torch.Generator
    ) -> Iterator[list[Examples]]:
        """Yield each view of the examples, as what passes the network for it.

        In a blended mini-batch every image is in two blends, with l in one and 1 - l in the other.
        Their sum also has what the two partners add.
        """
        images, targets = examples
        for view in range(self.count):
            if self.channel.blend:
                yield list(self._blends(examples, point, view))
            elif self.channel.transform is not None:
                yield [(self.channel.transform(images, generator=draws), targets)]
            else:
                yield [examples]

    def _blends(self, examples: Examples, point: int, view: int) -> Iterator[Examples]:
        assert self.company is not None
        alpha = self.channel.blend
        # By symmetry l in [1/2, 1]; the middles of parts of equal probability.
        share = float(scipy.stats.beta.ppf(0.5 + (view + 0.5) / (2 * VIEWS), alpha, alpha))
        draws = generator(self.seed, "partners", point, view)
        partners = torch.randint(len(self.company[0]), (2,), generator=draws).tolist()
        for own, partner in zip((share, 1 - share), partners, strict=True):
            yield tuple(  # type: ignore[misc]
                torch.lerp(other[partner].expand_as(values), values, own)
                for values, other in zip(examples, self.company, strict=True)
            )
