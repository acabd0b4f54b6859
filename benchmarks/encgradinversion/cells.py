"""Which rows the paper's tables and its time figure have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.encgradinversion.datasets import DATASETS

Options = Mapping[str, str]

MODELS = {
    "LeNet": "lenet",
    "ResNet18": "resnet18-sigmoid",
    "MobileNet": "mobilenet",
    "EfficientNet0": "efficientnet0",
}
"""The paper's names, and this project's."""


@dataclass(frozen=True)
class Method:
    """A line of a table: an attack and its options, or a first phase alone.

    ``quick`` replaces options where minutes count.
    """

    attack: str
    options: Options = field(default_factory=dict)
    quick: Options = field(default_factory=dict)


OURS = "EncGradInversion"
AUTHORS = "authors' code"
METHODS = {
    "OHA": Method("oha"),
    "GRA": Method("gra"),
    "consistent": Method("consistent"),
    "DLG": Method("dlg", quick={"iterations": "150"}),
    "STG": Method("stg", quick={"iterations": "300", "restarts": "2"}),
    "ING": Method("ing", quick={"iterations": "800"}),
    "IGI": Method("igi", quick={"iterations": "150"}),
    OURS: Method("encgrad", quick={"iterations": "200", "refine": "60"}),
    f"{OURS} phase 2": Method("encgrad", {"refine": "0"}, quick={"iterations": "200"}),
    f"{OURS} phase 3": Method("encgrad", quick={"iterations": "200", "refine": "60"}),
    AUTHORS: Method("authors"),
}
"""By the paper's names; "consistent" is this project's first phase."""

PHASE_1 = ("OHA", "GRA", "consistent")
SMALL = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: all its combinations; the quick form has its first data sets and ``quick`` batches.

    ``measure`` names one of :data:`benchmarks.encgradinversion.protocol.MEASUREMENTS`.
    ``outputs`` replaces the classes of the data set.
    """

    title: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    batches: tuple[int, ...]
    methods: tuple[str, ...]
    quick: tuple[int, ...]
    measure: str = "images"
    outputs: int | None = None


ALL_SETS = tuple(DATASETS)
THREE = ("LeNet", "ResNet18", "MobileNet")
TABLES = {
    "III": Table(title="error of the encodings", datasets=ALL_SETS, models=("LeNet",),
                 batches=(8, 16, 32, 64), methods=PHASE_1, quick=(8, 64), measure="encodings"),
    "IV": Table(title="EncGradInversion by network", datasets=("cifar100",), models=tuple(MODELS),
                batches=SMALL, methods=(OURS,), quick=(1, 8)),
    "V": Table(title="EncGradInversion by network", datasets=("lfw",), models=THREE,
               batches=SMALL, methods=(OURS,), quick=(1, 8)),
    "VI": Table(title="EncGradInversion by network", datasets=("imagenet",), models=THREE,
                batches=SMALL, methods=(OURS,), quick=(1, 8)),
    "VII": Table(title="phases", datasets=("cifar100",), models=("LeNet",), batches=SMALL,
                 methods=(f"{OURS} phase 2", f"{OURS} phase 3"), quick=(1, 8)),
    "VIII": Table(title="phases", datasets=("cifar100",), models=("ResNet18",), batches=SMALL,
                  methods=(f"{OURS} phase 2", f"{OURS} phase 3"), quick=(1,)),
    "IX": Table(title="attacks", datasets=("cifar100",), models=("LeNet",), batches=(1, 2, 4, 8),
                methods=("DLG", "STG", "ING", "IGI", OURS), quick=(1, 4)),
    "time": Table(title="time of the attack", datasets=("cifar100",), models=("LeNet",),
                  batches=(1, 4, 16, 64, 256, 512), methods=(f"{OURS} phase 2", AUTHORS),
                  quick=(1, 16, 128), outputs=1000),
}  # fmt: skip
"""By the paper's number. The figure has 1,000 classes, so that 512 labels are distinct."""

QUICK_SIZE = 32
IMAGES = {"full": 8, "quick": 2}
"""Over how many images a row is the mean at least, in as many batches."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row to be: what is attacked, how, and on which images."""

    table: str
    dataset: str
    data: str
    model: str
    outputs: int
    size: int
    batch: int
    batches: int
    method: str
    effort: str
    options: str
    seed: int
    index: str

    @property
    def attack_options(self) -> dict[str, str]:
        """The options of the attack, by name."""
        return dict(part.split("=", 1) for part in self.options.split())

    def key(self) -> tuple[Any, ...]:
        """Return what tells this row from all others."""
        return tuple(asdict(self).values())

    @classmethod
    def key_of(cls, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the key of a row that was written."""
        return tuple(row.get(name) for name in cls.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of the tables was asked for; empty is all, None a table's own."""

    tables: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    images: int | None = None
    quick: bool = False
    seed: int = 0
    options: str = ""
    index: str = ""
    peer: bool = False

    @property
    def effort(self) -> str:
        """Whether rows are the paper's or those of a few minutes."""
        return "quick" if self.quick else "full"

    def cells(self, data: Mapping[str, str]) -> Iterator[Cell]:
        """Yield the rows of the sets that there are, by table, set, model, size and batch.

        Parameters
        ----------
        data : mapping of str to str
            What was read, by data set.
        """
        for name in self.tables:
            for dataset in _chosen(self.datasets, TABLES[name].datasets):
                if dataset in data:
                    yield from self._of(name, dataset, data[dataset])

    def _of(self, name: str, dataset: str, data: str) -> Iterator[Cell]:
        table, source = TABLES[name], DATASETS[dataset]
        sizes = self.sizes or (QUICK_SIZE if self.quick else source.size,)
        least = self.images or IMAGES[self.effort]
        for model in _chosen(self.models, table.models):
            for size in sizes:
                for batch in self.batches or (table.quick if self.quick else table.batches):
                    for method in self._methods(table):
                        yield Cell(
                            table=name,
                            dataset=source.title,
                            data=data,
                            model=model,
                            outputs=table.outputs or source.outputs,
                            size=size,
                            batch=batch,
                            batches=-(-least // batch),
                            method=method,
                            effort=self.effort,
                            options=self._options(method),
                            seed=self.seed,
                            index=self.index,
                        )

    def _methods(self, table: Table) -> tuple[str, ...]:
        """Return the lines of a table; the authors' code where there is a clone of it."""
        chosen = _chosen(self.methods, table.methods)
        return tuple(name for name in chosen if self.peer or name != AUTHORS)

    def _options(self, method: str) -> str:
        known = METHODS[method]
        given = dict(part.split("=", 1) for part in self.options.split())
        merged = {**known.options, **(known.quick if self.quick else {}), **given}
        return " ".join(f"{name}={value}" for name, value in merged.items())


def _chosen(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in known if not wanted or name in wanted)
