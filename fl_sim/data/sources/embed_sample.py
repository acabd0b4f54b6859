"""Writes ``sample-PART.json``: ``python -m fl_sim.data.sources.embed_sample FOLDER_OF_KERMANY``.

Flower's bundle carries JSON but neither JPEG nor npz, so the sample travels as text.
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
from adversary.common.seeding import derive_seed
from fl_sim.data.sources import kermany
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part
from fl_sim.data.sources.sample import SIDE

TARGET = Path(__file__).parent

PARTS: dict[Part, tuple[Part, int]] = {
    "private": ("private", 200),
    "public": ("private", 60),
    "test": ("test", 100),
}
"""By part of the sample: of which split of Kermany's, and how many images of each class."""

QUALITY = 85
"""Of the JPEGs: about 1.5 kB each."""

ATTRIBUTION = (
    "Kermany, Zhang and Goldbaum, Labeled Optical Coherence Tomography (OCT) and Chest X-Ray"
    " Images for Classification, Mendeley Data rscbjbr9sj (2018), CC BY 4.0; 720 images, one a"
    f" patient, resized to {SIDE}x{SIDE} and stored as JPEG"
)


def embed(folder: Path, target: Path = TARGET) -> None:
    """Pack a sample of the Kermany set, drawn by patient with a fixed seed: a file a part."""
    found = kermany.source(
        DatasetRequest(
            name="kermany",
            path=str(folder),
            image_size=SIDE,
            channels=1,
            num_images=0,
            public=0,
            test_fraction=0.0,
            seed=0,
        )
    )
    for part in PARTS:
        chosen = drawn(found, part)
        images = [
            {
                "name": Path(found.names[i]).name,
                "patient": found.patients[i],
                "label": int(found.labels[i]),
                "part": part,
                "jpeg": _jpeg(picture[0]),
            }
            for i, picture in zip(chosen, found.read(chosen).numpy(), strict=True)
        ]
        content = {
            "attribution": ATTRIBUTION,
            "label_names": list(found.label_names),
            "images": images,
        }
        with atomic_write(target / f"sample-{part}.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def drawn(found: DatasetSource, part: Part) -> np.ndarray:
    """Return the indices of a part's images, classes in turn, each of another patient.

    The public ones are those that come after the private ones in one order of the patients.
    """
    rng = np.random.default_rng(derive_seed(0, "sample"))
    of, count = PARTS[part]
    first = PARTS["private"][1] if part == "public" else 0
    members = rng.permutation(np.flatnonzero(np.array(found.parts) == of))
    _, once = np.unique([found.patients[i] for i in members], return_index=True)
    members = members[np.sort(once)]
    labels = found.labels.numpy()[members]
    by_class = [members[labels == label][first : first + count] for label in (0, 1)]
    return np.stack(by_class, axis=1).ravel()


def _jpeg(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    embed(Path(sys.argv[1]))
