"""Writes ``embedded.json``: ``python -m fl_sim.data.sources.embed kermany_val16_256.npz``.

Flower's bundle carries JSON but neither PNG nor npz, so the sample travels as text.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from adversary.common.files import atomic_write

TARGET = Path(__file__).with_name("embedded.json")

ATTRIBUTION = (
    "Kermany, Zhang and Goldbaum, Labeled Optical Coherence Tomography (OCT) and Chest X-Ray"
    " Images for Classification, Mendeley Data rscbjbr9sj (2018), CC BY 4.0; the 16 validation"
    " images, resized to a short side of 256 pixels and cropped to the centre"
)


def embed(source: Path, target: Path = TARGET) -> None:
    """Pack images (N, H, W) uint8, labels (N, 1) and filenames (N,) of an npz file as JSON."""
    with np.load(source) as arrays:
        rows = zip(arrays["filenames"], arrays["labels"].ravel(), arrays["images"], strict=True)
        images = [
            {
                "name": str(name),
                "patient": patient_of(str(name)),
                "label": int(label),
                "png": _png(image),
            }
            for name, label, image in rows
        ]
    content = {
        "attribution": ATTRIBUTION,
        "label_names": ["normal", "pneumonia"],
        "images": images,
    }
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def patient_of(name: str) -> str:
    """Return the patient in a Kermany file name: ``person1946_bacteria_4874.jpeg``: person1946."""
    stem = name.partition(".")[0]
    return stem.partition("_")[0] if stem.startswith("person") else stem.rpartition("-")[0]


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    embed(Path(sys.argv[1]))
