"""Mods that put every update through a mechanism."""

from __future__ import annotations

from adversary.observation.mechanisms import (
    Mechanism,
    PercentileNoise,
    PercentilePrivacy,
    Quantised,
    RelativeNoise,
    TopK,
)
from strategies.mods.updates import ClientUpdate, UpdateMod


class MechanismMod(UpdateMod):
    """Sends what a mechanism releases; counts and running statistics leave as they are.

    Parameters
    ----------
    mechanism : Mechanism
        Any of :mod:`adversary.observation.mechanisms`.
    seed : int, optional
        See :class:`UpdateMod`.
    """

    def __init__(self, mechanism: Mechanism, *, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.mechanism = mechanism

    def protect(self, update: ClientUpdate) -> None:
        """Put what the mechanism releases into the reply."""
        update.replace(
            self.mechanism.release(update.sent, update.returned, generator=self.generator(update))
        )


class GaussianNoiseMod(MechanismMod):
    """Adds noise in proportion to each array's update; earns no epsilon.

    Parameters
    ----------
    scale : float
        As of :class:`~adversary.observation.mechanisms.RelativeNoise`.
    seed : int, optional
        See :class:`UpdateMod`.

    Examples
    --------
    >>> mod = GaussianNoiseMod(scale=0.1)  # @app.train(mods=[mod])
    """

    def __init__(self, scale: float = 0.1, *, seed: int | None = None) -> None:
        super().__init__(RelativeNoise(scale=scale), seed=seed)


class PercentileNoiseMod(MechanismMod):
    """Adds noise at a percentile of the update, as NVFlare's quantifying-data-leakage; no epsilon.

    Parameters
    ----------
    scale, percentile : float
        As of :class:`~adversary.observation.mechanisms.PercentileNoise`.
    seed : int, optional
        See :class:`UpdateMod`.
    """

    def __init__(
        self, scale: float = 0.1, percentile: float = 95.0, *, seed: int | None = None
    ) -> None:
        super().__init__(PercentileNoise(scale=scale, percentile=percentile), seed=seed)


class PercentilePrivacyMod(MechanismMod):
    """Sends the entries above a percentile, none beyond a limit: NVFlare's filter of the name.

    Parameters
    ----------
    percentile, gamma : float
        As of :class:`~adversary.observation.mechanisms.PercentilePrivacy`.
    """

    def __init__(self, percentile: float = 10.0, gamma: float = 0.01) -> None:
        super().__init__(PercentilePrivacy(percentile=percentile, gamma=gamma))


class TopKMod(MechanismMod):
    """Sends the largest entries of an update, the others as the server had them.

    Parameters
    ----------
    share : float
        As of :class:`~adversary.observation.mechanisms.TopK`.
    scope : {"array", "global"}
        As of it.
    """

    def __init__(self, share: float = 0.1, scope: str = "array") -> None:
        super().__init__(TopK(share=share, scope=scope))


class QuantiseMod(MechanismMod):
    """Rounds every array of an update to few levels, down to its signs.

    Parameters
    ----------
    bits : int
        As of :class:`~adversary.observation.mechanisms.Quantised`.
    rounding : {"nearest", "stochastic"}
        As of it.
    seed : int, optional
        See :class:`UpdateMod`.
    """

    def __init__(
        self, bits: int = 8, rounding: str = "nearest", *, seed: int | None = None
    ) -> None:
        super().__init__(Quantised(bits=bits, rounding=rounding), seed=seed)
