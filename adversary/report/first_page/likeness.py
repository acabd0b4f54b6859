"""PSNR in words, with the figure in brackets."""

from __future__ import annotations

import math

from adversary.report.templating import format_number
from adversary.scoring.verdict import CLOSE_PSNR, COPY_PSNR, PRIOR_MARGIN

INDISTINGUISHABLE = 50.0
"""dB from which the root mean squared error is below one grey level of 256 (48 dB), and some."""


def likeness(psnr: float | None, mean_psnr: float | None = None) -> str:
    """Return how near a picture is, in words.

    Parameters
    ----------
    psnr : float or None
        In dB.
    mean_psnr : float or None
        Of the mean public X-ray beside the same one: what needs no update at all.
    """
    if psnr is None:
        return "not known"
    if math.isinf(psnr):
        return "an exact copy"
    figure = f"{format_number(psnr, 1)} dB"
    if psnr >= INDISTINGUISHABLE:
        return f"a copy to the last grey level ({figure})"
    if psnr >= COPY_PSNR:
        return f"a copy ({figure})"
    if mean_psnr is not None and psnr <= mean_psnr + PRIOR_MARGIN:
        return f"no nearer than the mean public X-ray ({figure}; the mean has {mean_psnr:.1f} dB)"
    return f"{'close' if psnr >= CLOSE_PSNR else 'a blur'} ({figure})"
