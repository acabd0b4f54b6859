"""The paper's image sets, read as their makers publish them.

CIFAR as "python version" (Krizhevsky 2009): the archive, its folder, or one pickled batch. LFW
(Huang et al. 2007): the folder of people, original, funneled or deep-funneled. ImageNet: a folder
of images of any size, with or without a folder a class. An npz file stands in for any of them.
"""

from __future__ import annotations

import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.encgradinversion.errors import PaperError
from fl_sim.data.errors import DataError
from fl_sim.data.files import images as pictures
from fl_sim.data.files.npz import read_arrays

CACHE = Path("~/.cache/fl-sim").expanduser()
"""Where CIFAR is downloaded to without ``--data``; scikit-learn has a folder of its own for LFW."""

AGAIN = "download it again"
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LFW_IMAGES = 13_233
LFW_FOLDERS = ("lfw_funneled", "lfw-deepfunneled", "lfw")
PIXEL_KEYS = ("images", "train_images")  # the latter in MedMNIST's files

# All that a pickled batch of numbers needs; anything else in it could be a program.
_OF_ARRAYS: dict[str, Any] = {
    "_reconstruct": np.zeros(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "encode": lambda text, encoding: text.encode(encoding),
}


@dataclass(frozen=True)
class ImageSet:
    """Images that are read when they are asked for.

    Parameters
    ----------
    name : str
        What was read.
    names : tuple of str
        What each image is called, in the set's own order.
    pixels : callable
        From an index to (H, W) or (H, W, 3), float32 in [0, 1].
    channels : int
        1 where all images are grey, else 3.
    missing : int
        How many images of the set as it is published are not there.
    """

    name: str
    names: tuple[str, ...]
    pixels: Callable[[int], np.ndarray]
    channels: int = 3
    missing: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: list[int], size: int) -> Tensor:
        """Return images (B, C, size, size) in [0, 1]: centre squares, reduced to that size.

        Raises
        ------
        PaperError
            If an image is smaller, or cannot be read.
        """
        try:
            found = pictures.stack(self._of(indices, size), size, self.channels, self.name)
        except DataError as error:
            raise PaperError(f"{error}; {AGAIN}") from None
        return found.float() / 255

    def _of(self, indices: list[int], size: int) -> Iterator[tuple[str, np.ndarray]]:
        for index in indices:
            name, pixels = self.names[index], self.pixels(index)
            if (short := min(pixels.shape[:2])) < size:
                raise PaperError(
                    f"--size {size}: {name} of {self.name} has {short} pixels a side; at most that"
                )
            yield name, pixels


@dataclass(frozen=True)
class Dataset:
    """One of the paper's sets: its name and classes, and how it is read.

    Parameters
    ----------
    title : str
        The paper's name.
    outputs : int
        Classes, hence outputs of the models.
    read : callable
        From the folder or file given, or None, to the images.
    size : int
        Side in pixels that the authors' code takes.
    """

    title: str
    outputs: int
    read: Callable[[Path | None], ImageSet]
    size: int = 32

    def images(self, path: Path | None) -> ImageSet:
        """Return the images at a path, which may be an npz file that stands in.

        Raises
        ------
        PaperError
            If there are none, or not all of them.
        """
        if path is None:
            return self.read(None)
        if not path.exists():
            raise PaperError(f"--data {path}: no such file or folder")
        return _of_npz(path) if path.suffix == ".npz" else self.read(path)


@dataclass(frozen=True)
class Cifar:
    """A version of CIFAR: its folder, and the files in which the images for training lie."""

    title: str
    folder: str
    files: tuple[str, ...]

    def contents(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """Yield the pickled batches in a folder or in the archive, with their names.

        Raises
        ------
        PaperError
            If one of them is not there, or the archive is not whole.
        """
        if path.is_dir():
            folder = path / self.folder if (path / self.folder).is_dir() else path
            for name in self.files:
                if not (folder / name).exists():
                    raise self._incomplete(path, name)
                yield str(folder / name), (folder / name).read_bytes()
            return
        try:
            with tarfile.open(path) as archive:
                for name in self.files:
                    file = archive.extractfile(f"{self.folder}/{name}")
                    assert file is not None
                    yield f"{path}/{name}", file.read()
        except KeyError:
            raise self._incomplete(path, name) from None
        except (tarfile.TarError, EOFError, OSError, zlib.error):
            raise PaperError(f"--data {path}: the archive is not whole; {AGAIN}") from None

    def _incomplete(self, path: Path, name: str) -> PaperError:
        return PaperError(f"--data {path}: {self.folder}/{name} is missing; {AGAIN}")


CIFAR100 = Cifar("CIFAR-100", "cifar-100-python", ("train",))
CIFAR10 = Cifar("CIFAR-10", "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)))


def cifar(path: Path | None) -> ImageSet:
    """Return the images for training of CIFAR-100, or of CIFAR-10 where that is what is there."""
    where = path or _downloaded_cifar()
    version = CIFAR10 if _is_cifar10(where) else CIFAR100
    whole = where.is_dir() or where.name.endswith((".tar.gz", ".tgz"))
    contents = version.contents(where) if whole else [(str(where), where.read_bytes())]
    rows = np.concatenate([_unpickled(content, f"--data {name}") for name, content in contents])
    planes = rows.reshape(-1, 3, 32, 32)
    return ImageSet(
        version.title,
        tuple(f"image {i}" for i in range(len(rows))),
        lambda index: planes[index].transpose(1, 2, 0).astype(np.float32) / 255,
    )


def _is_cifar10(path: Path) -> bool:
    if path.is_dir():
        names = {at.name for at in path.iterdir()}
        return CIFAR100.folder not in names and bool(names & {CIFAR10.folder, *CIFAR10.files})
    return path.name.startswith(("cifar-10-", *CIFAR10.files))


def _downloaded_cifar() -> Path:
    from torchvision import datasets  # slow to import

    try:
        datasets.CIFAR100(str(CACHE), download=True)
    except (OSError, RuntimeError) as error:
        raise _not_downloaded(CIFAR100.title, CACHE, error) from None
    return CACHE


def lfw(path: Path | None) -> ImageSet:
    """Return LFW's images: in the order of its people.txt where that is there, else by name."""
    given = path or _downloaded_lfw()
    folder = next((given / name for name in LFW_FOLDERS if (given / name).is_dir()), given)
    if (folder / folder.name).is_dir():  # as some mirrors pack it
        folder = folder / folder.name
    if not folder.is_dir():
        raise PaperError(f"--data {given}: must be the folder of people, unpacked")
    lists = [at / "people.txt" for at in (folder, folder.parent) if (at / "people.txt").exists()]
    if lists:
        names = list(_people(lists[0]))
        if absent := [name for name in names if not (folder / name).exists()]:
            raise PaperError(
                f"--data {given}: {len(absent)} of the {len(names)} images of {lists[0].name} are "
                f"missing, the first is {absent[0]}; {AGAIN}"
            )
    else:
        names = sorted(str(p.relative_to(folder)) for p in folder.glob("*/*.jpg"))
    if not names:
        raise PaperError(f"--data {given}: no folders of people with .jpg files there")
    missing = 0 if lists else max(0, LFW_IMAGES - len(names))
    return _of_files("LFWPeople", folder, names, missing=missing)


def folder_of_images(path: Path | None) -> ImageSet:
    """Return the images below a folder, by name: the authors' order is that of their disk."""
    if path is None:
        raise PaperError("--dataset imagenet: needs --data, a folder of images")
    if not path.is_dir():
        raise PaperError(f"--data {path}: must be a folder of images")
    files = (p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
    names = sorted(str(p.relative_to(path)) for p in files)
    if not names:
        raise PaperError(f"--data {path}: no {', '.join(sorted(ENDINGS))} files there")
    return _of_files(path.name, path, names)


DATASETS = {
    "cifar100": Dataset("CIFAR-100", 100, cifar),
    "lfw": Dataset("LFWPeople", 5749, lfw, size=128),
    "imagenet": Dataset("ImageNet", 1000, folder_of_images, size=64),
}
"""By name, with the sides that the authors' code has."""


def _of_files(name: str, folder: Path, names: list[str], *, missing: int = 0) -> ImageSet:
    def pixels(index: int) -> np.ndarray:
        path = folder / names[index]
        pictures.check_size(path.stat().st_size, str(path))
        return pictures.decode(path.read_bytes(), str(path))

    return ImageSet(name, tuple(names), pixels, missing=missing)


def _of_npz(path: Path) -> ImageSet:
    pixels = _npz_pixels(path)
    return ImageSet(
        path.stem,
        tuple(f"image {i}" for i in range(len(pixels))),
        lambda index: pixels[index].astype(np.float32) / 255,
        channels=1 if pixels.ndim == 3 else 3,
    )


def _npz_pixels(path: Path) -> np.ndarray:
    for key in PIXEL_KEYS:
        try:
            (found,) = read_arrays(path, [key])
        except KeyError:
            continue
        except DataError as error:
            raise PaperError(f"--data {error}") from None
        if found.dtype != np.uint8 or found.ndim not in (3, 4):
            told = f"{key} is {found.shape} {found.dtype}"
            raise PaperError(f"--data {path}: {told}; must be (N, H, W[, 3]) uint8")
        return found
    raise PaperError(f"--data {path}: has no array of {' or '.join(PIXEL_KEYS)}")


def _unpickled(content: bytes, where: str) -> np.ndarray:
    """Return the images (N, 3072) uint8 of one pickled batch; nothing in it is run."""
    try:
        found = _Numbers(BytesIO(content), encoding="bytes").load()
        rows = found[b"data"]
    except (EOFError, pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError) as error:
        raise PaperError(
            f"{where}: is no whole batch of CIFAR ({type(error).__name__}: {error}); {AGAIN}"
        ) from None
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,):
        raise PaperError(f"{where}: data must be (N, 3072) uint8")
    return rows


class _Numbers(pickle.Unpickler):
    """Reads arrays and plain values, and refuses whatever else a pickle can name."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] not in {"numpy", "_codecs"} or name not in _OF_ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return _OF_ARRAYS[name]


def _people(path: Path) -> Iterator[str]:
    """Yield the files of people.txt: folds, and in each of them people and how many images."""
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    try:
        for _ in range(int(next(lines))):
            for _ in range(int(next(lines))):
                person, count = next(lines).split("\t")
                for number in range(1, int(count) + 1):
                    yield f"{person}/{person}_{number:04d}.jpg"
    except (ValueError, StopIteration):
        raise PaperError(f"{path}: ends early, or is not LFW's list of people; {AGAIN}") from None


def _downloaded_lfw() -> Path:
    from sklearn import datasets  # slow to import

    home = Path(datasets.get_data_home()) / "lfw_home"
    try:
        datasets.fetch_lfw_people(min_faces_per_person=500)  # of one person: it opens few images
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_downloaded("LFWPeople", home, error) from None
    return home


def _not_downloaded(title: str, where: Path, error: BaseException) -> PaperError:
    said = " ".join(str(error).split())[:120]
    return PaperError(f"{title} could not be downloaded to {where} ({said}); --data names a copy")
