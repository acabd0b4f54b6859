"""What stands at the top of a page, and on every sheet of it in print."""

from __future__ import annotations

NOTICES = {
    "images": "Confidential: shows X-rays. Where the data are real, keep and delete this page as "
    "you do the X-rays.",
    "synthetic": "Synthetic images: shows no patients. Keep as an internal document.",
    "index": "Internal: names of runs and what they found. The reports behind the links may show "
    "X-rays.",
    "sensitive": "Without pictures of patients and names of files. For those who decide on the "
    "training.",
}
"""By what the page shows."""
