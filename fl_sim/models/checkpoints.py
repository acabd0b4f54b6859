"""Weights in files: reading anyone's safely, fitting them to a model, writing our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adversary.common.errors import UserError
from adversary.common.files import atomic_write
from adversary.common.types import StateDict

SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".ckpt", ".bin")

_NESTED = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights",
    "params", "ema", "model_ema", "state_dict_ema", "ema_state_dict",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "ema.", "encoder.")
# What counters, averages and losses leave among the arrays: of no layer of the model.
_NO_LAYER = frozenset(
    {"total_ops", "total_params", "n_averaged", "op_threshs", "pos_weight", "class_weights"}
)
_LOSSES = frozenset({"criterion", "loss", "loss_fn", "loss_function", "loss_func"})
# torchvision before 0.3 named DenseNet's layers norm.1 where it now says norm1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_HEADS = ("head", "fc", "classifier")
_NAMED = 3  # arrays named in a message


class CheckpointError(UserError, ValueError):
    """Weights that cannot be read or do not fit; one line that names the file or the arrays."""


def of_round(run: Path, round: int | None = None) -> Path:
    """Return the checkpoint of a round (0: before training) in a run's folder; the last if None.

    Raises
    ------
    CheckpointError
        If the run has none.
    """
    from adversary.storage.run_folder import RunFolder  # slow to import

    if round is not None:
        there = [path] if (path := RunFolder(run).checkpoint(round)).is_file() else []
    else:
        there = sorted(RunFolder(run).checkpoint(0).parent.glob("round-*.safetensors"))
    if there:
        return there[-1]
    wanted = "" if round is None else f" of round {round}"
    raise CheckpointError(
        f"{run}: holds no model{wanted}; a run keeps them with checkpoints = true"
    )


def read(path: Path) -> StateDict:
    """Return the arrays of a file, or of the last round of a run's folder, on the CPU.

    Nothing is ever unpickled but tensors and plain containers, so a file from a stranger cannot
    run code; numbers of NumPy are let through. A state dict is also found under ``state_dict``,
    ``model``, ``ema`` and the like, however they are nested; common prefixes (``module.`` of
    DataParallel, ``_orig_mod.`` of torch.compile, ``model.``, ``encoder.``) are taken off in any
    order, entries of no layer (``total_ops``, ``n_averaged``, a loss's weights) left out, and
    DenseNet's old names are brought to today's.

    Parameters
    ----------
    path : Path
        A safetensors file, one that ``torch.save`` wrote, or a run's folder.

    Raises
    ------
    CheckpointError
        If there is no such file, or no state dict of plain tensors in it.
    """
    if path.is_dir():
        path = of_round(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: allowed are files that end in {', '.join(SUFFIXES)}")
    content = _safetensors(path) if suffix == ".safetensors" else _torch(path)
    return _of_layers(_state_dict(content, path))


def write(path: Path, model: nn.Module) -> None:
    """Write the whole state of ``model`` as safetensors; no reader ever sees half of it."""
    arrays = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(arrays, temporary)


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, head: bool = True) -> None:
    """Load ``state`` into ``model``, in place, whoever named the arrays.

    Besides the model's own names those of torchvision serve (its last layer is called ``fc`` or
    ``classifier``), also below one name more (``densenet121.features.conv0.weight``). The stem
    of an RGB model is summed over its channels for a grey one. Counts of batches may be missing,
    as in old files, and so may whatever a model without batch normalisation has no use for.

    Parameters
    ----------
    model : nn.Module
        A :class:`~fl_sim.models.Classifier`, or any model with the arrays' own names.
    state : mapping of str to Tensor
        From :func:`read`.
    head : bool
        Whether the last layer is loaded too; if not, the model keeps its own.

    Raises
    ------
    CheckpointError
        If arrays are missing, left over, or of another shape.
    """
    own = model.state_dict()
    given = {_own_name(name, own): value for name, value in _without_common(state, own).items()}
    found: StateDict = {}
    wrong: list[str] = []
    for name, value in own.items():
        if name.startswith("head.") and not head:
            continue
        if name not in given:
            if not name.endswith("num_batches_tracked"):
                wrong.append(f"{name} is missing")
        elif (fitted := _fitted(given[name], value)) is None:
            shapes = f"{tuple(given[name].shape)}, not {tuple(value.shape)}"
            wrong.append(f"{name} is {shapes}")
        else:
            found[name] = fitted
    left = [n for n in given if n not in own and not n.endswith(_STATISTICS)]
    wrong += [f"{name} is not in the model" for name in left if head or not _of_head(name)]
    if wrong:
        wrong = _prefixed(given, own) or wrong
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise CheckpointError(f"does not fit the model: {', '.join(wrong[:_NAMED])}{more}")
    model.load_state_dict(found, strict=False)


def outputs(state: Mapping[str, Tensor]) -> int:
    """Return how many outputs the last linear layer in ``state`` has.

    Raises
    ------
    CheckpointError
        If no layer goes by one of its usual names.
    """
    heads = [v for n, v in state.items() if v.ndim == 2 and set(n.split(".")) & set(_HEADS)]
    if not heads:
        raise CheckpointError(f"has no last linear layer called {', '.join(_HEADS)}")
    return len(heads[-1])


def channels(state: Mapping[str, Tensor]) -> int:
    """Return how many channels of an image the weights in ``state`` take: 3, or else 1."""
    return 3 if any(v.ndim == 4 and v.shape[1] == 3 for v in state.values()) else 1


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from None


def _torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    # What is no checkpoint, or a hostile one, can make torch's unpickler raise anything.
    except Exception as error:
        found = re.search(r"GLOBAL ([\w.]+)|global ([\w.]+)", str(error))
        named = next(filter(None, found.groups()), "") if found else ""
        reason = f"it holds {named}" if named else str(error).partition("\n")[0].partition(". ")[0]
        raise CheckpointError(
            f"{path}: holds more than plain tensors, or is no checkpoint ({reason}); nothing else "
            "is unpickled, so save the state dict alone"
        ) from None


def _numbers() -> list[Any]:
    """Return what a pickle of NumPy's numbers names, under its old names and the new."""
    kinds = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    scalar = np.dtype(np.float64).type(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


def _state_dict(content: Any, path: Path) -> StateDict:
    """Return the state dict at the top of what a file holds, or nested in it."""
    while isinstance(content, Mapping):
        inner = next((content[k] for k in _NESTED if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    arrays = content if isinstance(content, Mapping) else {}
    found = {str(name): value for name, value in arrays.items() if isinstance(value, Tensor)}
    if not found:
        keys = ", ".join(map(str, list(arrays)[:_NAMED])) or type(content).__name__
        raise CheckpointError(f"{path}: holds no state dict (but {keys})")
    return found


def _of_layers(state: StateDict) -> StateDict:
    """Return the arrays of layers without common prefixes, in whatever order these stand."""
    kept = {name: value for name, value in state.items() if not _of_no_layer(name)}
    while True:
        # A head may stand beside what the prefix holds.
        others = [name for name in kept if not _of_head(name)]
        prefix = next(
            (p for p in _PREFIXES if others and all(name.startswith(p) for name in others)), None
        )
        if prefix is None:
            break
        kept = {name.removeprefix(prefix): value for name, value in kept.items()}
    return {_OLD_DENSENET.sub(r"\1", name): value for name, value in kept.items()}


def _of_no_layer(name: str) -> bool:
    parts = name.split(".")
    return parts[-1] in _NO_LAYER or bool(_LOSSES & set(parts[:-1]))


def _without_common(state: Mapping[str, Tensor], own: StateDict) -> Mapping[str, Tensor]:
    """Take off a first name that all arrays share, where none of the model's has it."""
    first = {name.partition(".")[0] for name in state}
    if len(first) != 1 or any(_own_name(name, own) in own for name in state):
        return state
    return {name.partition(".")[2]: value for name, value in state.items()}


def _prefixed(given: Mapping[str, Tensor], own: StateDict) -> list[str]:
    """Return in words which unknown names stand before the model's own; nothing if none do."""
    before: dict[str, int] = {}
    for name in given:
        parts = name.split(".")
        for cut in range(1, len(parts)):
            if _own_name(".".join(parts[cut:]), own) in own and name not in own:
                prefix = ".".join(parts[:cut])
                before[prefix] = before.get(prefix, 0) + 1
                break
    if not before or max(before.values()) < len(given) / 4:
        return []
    prefix, count = max(before.items(), key=lambda item: item[1])
    return [
        f"{count} of its {len(given)} arrays have '{prefix}.' before the model's own names; save "
        "those alone"
    ]


def _own_name(name: str, own: StateDict) -> str:
    """Return the model's own name of an array that torchvision, or the model itself, named."""
    if name in own:
        return name
    if f"body.{name}" in own:
        return f"body.{name}"
    layer, _, kind = name.rpartition(".")
    return f"head.{kind}" if _of_head(name) and f"head.{kind}" in own and layer else name


def _of_head(name: str) -> bool:
    return name.partition(".")[0] in _HEADS


def _fitted(value: Tensor, own: Tensor) -> Tensor | None:
    """Return ``value`` in the shape of ``own``, RGB weights of a stem summed, or None."""
    if value.ndim == own.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1:
        value = value.sum(1, keepdim=True)
    return value if value.shape == own.shape else None
