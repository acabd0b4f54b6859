"""PSNR in words, with the figure in brackets."""

from __future__ import annotations

import math

from adversary.report.templating import format_number
from adversary.scoring.verdict import CLOSE_PSNR, COPY_PSNR, Evidence

INDISTINGUISHABLE = 50.0
"""dB from which the root mean squared error is below one grey level of 256 (48 dB), and some."""


def likeness(picture: Evidence) -> str:
    """Return how near a picture is, in words.

    Beside it stand the mean public X-ray, which needs no update at all, and other patients, where
    it is no nearer than these.
    """
    psnr = picture.psnr
    if psnr is None:
        return "not known"
    if math.isinf(psnr):
        return "an exact copy"
    figure = f"{format_number(psnr, 1)} dB"
    if psnr >= INDISTINGUISHABLE:
        return f"a copy to the last grey level ({figure})"
    if psnr >= COPY_PSNR:
        return f"a copy ({figure})"
    if not picture.beyond_prior:
        mean = f"the mean has {picture.prior_psnr:.1f} dB"
        return f"no nearer than the mean public X-ray ({figure}; {mean})"
    words = f"{'close' if psnr >= CLOSE_PSNR else 'a blur'} ({figure})"
    return words if picture.beyond_null else f"{words}, and as near to other patients"
