"""Parts of a model that a defence can keep local or frozen, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection

Names = Collection[str]


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _batch_norm(names: Names) -> frozenset[str]:
    norms = {_owner(n) for n in names if n.endswith(".running_mean")}
    return frozenset(n for n in names if _owner(n) in norms)


def _head(names: Names) -> frozenset[str]:
    return frozenset(n for n in names if _owner(n) == "head")


def _body(names: Names) -> frozenset[str]:
    return frozenset(names) - _head(names)


PARTS: dict[str, Callable[[Names], frozenset[str]]] = {
    "head": _head,
    "body": _body,
    "batch-norm": _batch_norm,
}
"""From the names of a state dict to those of a part: the last layer, all but the last layer, or
the weights and statistics of batch normalisation."""
