"""What a model was trained on: (x - mean) / std of images in [0, 1], as settings say."""

from __future__ import annotations

import math

from fl_sim.models import Classifier, ModelError

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def apply(model: Classifier, mean: str, std: str, channels: int) -> None:
    """Give ``model`` the normalisation that settings tell, in place; where empty, it keeps its own.

    Parameters
    ----------
    model : Classifier
        Of images with so many channels.
    mean, std : str
        ``model.mean`` and ``model.std``: a number, or one a channel, comma-separated.
    channels : int
        1 or 3.

    Raises
    ------
    ModelError
        If they are not of this kind.
    """
    if mean:
        model.mean = model.constant(_numbers("model.mean", mean, channels, above=-math.inf))
    if std:
        model.std = model.constant(_numbers("model.std", std, channels, above=0))


def _numbers(setting: str, text: str, channels: int, *, above: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    bound = " > 0" if above == 0 else ""
    if len(numbers) not in {1, channels} or not all(above < n < math.inf for n in numbers):
        each = f", or {channels}, one a channel, comma-separated" if channels > 1 else ""
        raise ModelError(
            f"{setting} = {text!r}: must be empty, or a number{bound}{each}"
            + (" (data.channels = 1)" if channels == 1 else "")
        )
    return numbers
