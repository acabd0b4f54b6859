"""What the attacker is allowed to know beyond the observation."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from adversary.observation.channel import Channel


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Named grants to an honest-but-curious server; each is empty unless given.

    The server always knows the model, the recipe and public X-rays. Everything else it would
    have to be told is an *oracle*: it makes an attack stronger than it is in the field, and the
    report says so.

    Parameters
    ----------
    labels : Tensor, optional
        True labels of the attacked images, (B,) class indices or (B, C) multi-hot. Oracle.
    channel : Channel
        The defence, as the federation agreed on it: no oracle. Empty for an attacker that does
        not know of it.
    """

    labels: Tensor | None = None
    channel: Channel = field(default_factory=Channel)

    def oracles(self) -> tuple[str, ...]:
        """Describe the oracles granted to the attacker."""
        return ("labels known",) if self.labels is not None else ()
