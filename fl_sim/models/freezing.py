"""Training a part of the model: what is frozen is neither trained nor sent nor observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from adversary.common.types import StateDict
from adversary.observation.batch_statistics import frozen_layers
from fl_sim.models import Classifier, ModelError


def _nothing(model: Classifier) -> Sequence[nn.Module]:
    return []


def _batch_norm(model: Classifier) -> Sequence[nn.Module]:
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not found:
        raise ModelError("local.freeze = 'batch-norm': the model has no batch normalisation")
    return found


def _all_but_last(model: Classifier) -> Sequence[nn.Module]:
    return [model.body]


def _middle(model: Classifier) -> Sequence[nn.Module]:
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    return [m for m in model.body.modules() if m is not first and not list(m.children())]


FROZEN_PARTS: dict[str, Callable[[Classifier], Sequence[nn.Module]]] = {
    "none": _nothing,
    "batch-norm": _batch_norm,
    "all-but-last": _all_but_last,
    "middle": _middle,
}
"""The modules that are frozen, by the name of the choice."""


def freeze(model: Classifier, what: str) -> Classifier:
    """Freeze a part of ``model``, in place, and return it.

    Frozen parameters ask for no gradient, by which everything below knows them.

    Parameters
    ----------
    model : Classifier
        The architecture that is trained.
    what : str
        A key of :data:`FROZEN_PARTS`.

    Raises
    ------
    ModelError
        If there is nothing of the kind to freeze.
    """
    for module in FROZEN_PARTS[what](model):
        module.requires_grad_(False)
    return model


def set_mode(model: nn.Module, *, training: bool) -> None:
    """Set the mode of ``model``; frozen batch normalisation keeps its statistics in either."""
    model.train(training)
    for name in frozen_layers(model):
        model.get_submodule(name).eval()


def trainable_state_dict(model: nn.Module) -> StateDict:
    """Return the arrays that are trained: parameters, and statistics of what is not frozen."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    still = tuple(f"{name}." for name in frozen_layers(model))
    return {
        name: value
        for name, value in model.state_dict().items()
        if name not in frozen and not (still and name.startswith(still))
    }


def load_trainable(model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Load what :func:`trainable_state_dict` returned, or the average of several, into ``model``.

    Raises
    ------
    ModelError
        If the arrays are not those that are trained.
    """
    if wrong := sorted(trainable_state_dict(model).keys() ^ arrays.keys()):
        raise ModelError(f"the arrays are of another model: {', '.join(wrong[:3])}")
    model.load_state_dict(dict(arrays), strict=False)
