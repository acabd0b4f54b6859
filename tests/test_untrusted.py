"""Files and names from strangers: damaged at random, every reader refuses in its own words.

``FL_SIM_FUZZ`` sets how many damaged files each reader is given (40 by default).
"""

import ast
import contextlib
import io
import os
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image

from adversary import Observation, TrainingRecipe
from adversary.observation.observation import ObservationError
from adversary.report import pictures
from adversary.storage.run_folder import RunFolder, RunFolderError
from fl_sim.data.errors import DataError
from fl_sim.data.files import images, npz
from fl_sim.data.files.tables import read_table
from fl_sim.data.files.tree import read_file
from fl_sim.models import checkpoints

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = int(os.environ.get("FL_SIM_FUZZ", "40"))
PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def written(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def dicom():
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.Rows = file.Columns = 16
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation, file.PixelData = 7, 0, PIXELS.tobytes()
    return written(lambda out: file.save_as(out, enforce_file_format=True))


def observation(place):
    arrays = {"weight": torch.rand(3, 2)}
    returned = {name: value + 1 for name, value in arrays.items()}
    one = Observation(round=1, client="a", sent=arrays, returned=returned, num_examples=1,
                      recipe=TrainingRecipe(lr=0.1, batch_size=1))  # fmt: skip
    one.save(place / "update.safetensors")
    return (place / "update.safetensors").read_bytes()


def leakage(place):
    folder = RunFolder.create(place / "run", overwrite=True)
    folder.add_failure(1, "a", "ing", "no luck")
    return (folder.path / "leakage.csv").read_bytes()


def picture(path):
    pictures.read(path)  # None where damaged


READERS = {
    "png": (
        lambda _: written(lambda out: Image.fromarray(PIXELS).save(out, "png")),
        "x.png",
        lambda path: images.decode(path.read_bytes(), "x.png"),
        DataError,
    ),
    "jpeg": (
        lambda _: written(lambda out: Image.fromarray(PIXELS).save(out, "jpeg")),
        "x.jpg",
        lambda path: images.decode(path.read_bytes(), "x.jpg"),
        DataError,
    ),
    "dicom": (
        lambda _: dicom(),
        "x.dcm",
        lambda path: images.decode(path.read_bytes(), "x.dcm"),
        DataError,
    ),
    "npz": (
        lambda _: written(lambda out: np.savez_compressed(out, images=PIXELS)),
        "x.npz",
        lambda path: npz.read_arrays(path, ["images"]),
        DataError,
        KeyError,
    ),
    "csv": (
        lambda _: b"path,label\na.png,1\nb.png,0\n",
        "x.csv",
        lambda path: read_table(path, ["path"]),
        DataError,
    ),
    "update": (observation, "update.safetensors", Observation.load, ObservationError),
    "weights": (
        lambda _: written(lambda out: torch.save({"weight": torch.rand(3)}, out)),
        "x.pt",
        checkpoints.read,
        checkpoints.CheckpointError,
    ),
    "leakage": (
        leakage,
        "run/leakage.csv",
        lambda path: RunFolder(path.parent).leakage(),
        RunFolderError,
    ),
    "picture of a run": (
        lambda _: written(lambda out: Image.fromarray(PIXELS).save(out, "png")),
        "truth-00.png",
        picture,
    ),
}


@st.composite
def damage(draw):
    """Draw what is done to a file: bytes changed, cut out, put in, or all after a place lost."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["change", "cut", "insert", "truncate"]),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=6),
            ),
            min_size=1,
            max_size=4,
        )
    )


def damaged(content, steps):
    for what, share, data in steps:
        place = int(share * len(content))
        behind = {
            "change": data + content[place + len(data) :],
            "cut": content[place + len(data) :],
            "insert": data + content[place:],
            "truncate": b"",
        }[what]
        content = content[:place] + behind
    return content


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=damage())
def test_a_damaged_file_is_read_or_refused(kind, steps, tmp_path_factory):
    make, name, read, *refusals = READERS[kind]
    place = tmp_path_factory.mktemp("damaged")
    (place / name).parent.mkdir(exist_ok=True)
    whole = make(place)
    (place / name).write_bytes(whole)
    read(place / name)  # as it was, it is read
    (place / name).write_bytes(damaged(whole, steps))
    with contextlib.suppress(*refusals):
        read(place / name)


PICKLING = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
SOURCES = [
    path for name in ("adversary", "strategies", "fl_sim") for path in (ROOT / name).rglob("*.py")
]


def calls_and_imports(path):
    """Return (what is called, its keywords as text) and the names that are imported."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    called = [
        (ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords})
        for node in nodes
        if isinstance(node, ast.Call)
    ]
    imported = {
        name.partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (getattr(node, "module", None) or "", *(alias.name for alias in node.names))
    }
    return called, imported


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled(path):
    called, imported = calls_and_imports(path)
    assert not imported & PICKLING
    assert all(
        given.get("weights_only") == "True" for said, given in called if said == "torch.load"
    )
    assert all(
        given.get("allow_pickle", "False") == "False" for said, given in called if said == "np.load"
    )
    assert not {"eval", "exec", "pd.read_pickle", "joblib.load"} & {said for said, _ in called}


def test_a_bomb_among_a_runs_pictures_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(PIXELS).save(tmp_path / "truth-00.png")
    assert pictures.read(tmp_path / "truth-00.png") is None
    Image.fromarray(PIXELS[:8, :8]).save(tmp_path / "truth-01.png", format="bmp")
    assert pictures.read(tmp_path / "truth-01.png") is None  # we write PNG, and read nothing else


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_free_memory", lambda: 10_000)
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((100, 100), np.uint8))
    with pytest.raises(DataError, match="x.npz: takes .* unpacked"):
        npz.read_arrays(tmp_path / "x.npz", ["images"])
    np.savez_compressed(tmp_path / "y.npz", images=PIXELS)
    assert npz.read_arrays(tmp_path / "y.npz", ["images"])[0].shape == (16, 16)


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("images.npy", header.getvalue())
    with pytest.raises(DataError, match="x.npz"):
        npz.read_arrays(tmp_path / "x.npz", ["images"])


def test_a_file_too_large_for_one_image_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_FILE", 100)
    (tmp_path / "x.png").write_bytes(b"x" * 101)
    with pytest.raises(DataError, match=r"x.png: 101 bytes"):
        read_file(tmp_path / "x.png")
