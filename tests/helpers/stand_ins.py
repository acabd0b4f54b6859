"""What Flower's examples import beyond Flower and torch, made of synthetic images.

Their data sets are downloaded, and the packages that do so may not be installed. These modules
take their places: the same names, with images drawn by rule.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

CLASSES = 10
SETS = {"cifar10": ("img", (32, 32, 3)), "fashion_mnist": ("image", (28, 28))}
"""By the last part of a data set's name: the column and the shape of its images."""


def picture(label: int, seed: int, shape: tuple[int, ...]) -> Image.Image:
    """Return a smooth picture with a mean that tells its label."""
    draw = np.random.default_rng(seed)
    coarse = draw.uniform(60, 130, (4, 4, *shape[2:])) + 8 * label
    size = shape[1], shape[0]
    return Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


class Rows:
    """A table of columns, with a transform of batches; as ``datasets.Dataset`` is used."""

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.columns = columns
        self.transform = transform

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]]) -> Rows:
        return cls(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.transform({name: [values[index]] for name, values in self.columns.items()})
        return {name: values[0] for name, values in batch.items()}

    def select(self, indices: Sequence[int]) -> Rows:
        chosen = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        return Rows(chosen, self.transform)

    def with_transform(self, transform: Callable[[dict[str, Any]], dict[str, Any]]) -> Rows:
        return Rows(self.columns, transform)

    def with_format(self, kind: str) -> Rows:
        return self

    def train_test_split(self, test_size: float, seed: int) -> Splits:
        order = np.random.default_rng(seed).permutation(len(self))
        held = round(test_size * len(self))
        return Splits(train=self.select(order[held:]), test=self.select(order[:held]))


class Splits(dict[str, Rows]):
    """Tables by name."""

    def with_transform(self, transform: Callable[[dict[str, Any]], dict[str, Any]]) -> Splits:
        return Splits({name: rows.with_transform(transform) for name, rows in self.items()})


def load_dataset(name: str, split: str | None = None) -> Rows | Splits:
    """Return the synthetic stand-in of a data set; all of it, or a split."""
    column, shape = SETS[name.rpartition("/")[2]]
    found = Splits()
    for part, (count, first) in {"train": (80, 0), "test": (20, 1000)}.items():
        labels = [i % CLASSES for i in range(count)]
        pictures = [picture(label, first + i, shape) for i, label in enumerate(labels)]
        found[part] = Rows({column: pictures, "label": labels})
    return found if split is None else found[split]


class Partitioner:
    """Deals rows in turn, whatever the partitioner is called."""

    def __init__(self, num_partitions: int, **options: Any) -> None:
        self.num_partitions = num_partitions
        self.dataset = Rows({"label": []})

    def load_partition(self, number: int) -> Rows:
        return self.dataset.select(range(number, len(self.dataset), self.num_partitions))


class FederatedDataset:
    """A data set whose training split is dealt to clients."""

    def __init__(self, dataset: str, partitioners: Mapping[str, Partitioner]) -> None:
        self.partitioner = partitioners["train"]
        self.partitioner.dataset = load_dataset(dataset, "train")

    def load_partition(self, number: int) -> Rows:
        return self.partitioner.load_partition(number)


class _Densenet(nn.Module):
    """Two blocks with batch normalisation, for MONAI's DenseNet where MONAI is not installed."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.out = nn.Linear(16, out_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.features(images))


class _Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, value: Any) -> Any:
        for transform in self.transforms:
            value = transform(value)
        return value


def _reader(**options: Any) -> Callable[[str], torch.Tensor]:
    return lambda path: torch.tensor(np.asarray(Image.open(path))).float()


def _as_it_is(**options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: image


def _channel_first() -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: image[None]


def _scaled() -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: (image - image.min()) / (image.max() - image.min())


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


def stand_ins() -> dict[str, ModuleType]:
    """Return modules by name: those of data always, others where they are not installed."""
    found = {
        "datasets": module("datasets", load_dataset=load_dataset, Dataset=Rows),
        "flwr_datasets": module("flwr_datasets", FederatedDataset=FederatedDataset),
        "flwr_datasets.partitioner": module(
            "flwr_datasets.partitioner",
            IidPartitioner=Partitioner,
            DirichletPartitioner=Partitioner,
        ),
        "wandb": module("wandb", init=lambda **_: None, log=lambda *_, **__: None),
    }
    if importlib.util.find_spec("monai") is None:
        densenet = module("monai.networks.nets.densenet", DenseNet121=_Densenet)
        nets = module("monai.networks.nets", densenet=densenet)
        networks = module("monai.networks", nets=nets)
        transforms = module(
            "monai.transforms", Compose=_Compose, LoadImage=_reader, ToTensor=_as_it_is,
            EnsureChannelFirst=_channel_first, ScaleIntensity=_scaled, RandFlip=_as_it_is,
            RandRotate=_as_it_is, RandZoom=_as_it_is,
        )  # fmt: skip
        data = module("monai.data", DataLoader=DataLoader)
        monai = module("monai", networks=networks, transforms=transforms, data=data)
        made = (monai, networks, nets, densenet, transforms, data)
        found |= {one.__name__: one for one in made}
    return found


def write_mednist(folder: Path, *, classes: int = 6, images: int = 10) -> None:
    """Write pictures as the archive of MedNIST has them: a folder a class."""
    for label in range(classes):
        (folder / "MedNIST" / f"class-{label}").mkdir(parents=True)
        for number in range(images):
            one = picture(label, 100 * label + number, (64, 64))
            one.save(folder / "MedNIST" / f"class-{label}" / f"{number}.png")


def forget(package: str) -> None:
    """Let a package be imported anew: examples keep their data in globals."""
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
