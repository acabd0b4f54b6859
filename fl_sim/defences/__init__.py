"""What a federation can do against a curious server: one file each, and the registry.

Imports ``models`` and ``training``. To add one: a file with a class of :class:`Defence` and a line
below; or a plug-in, see docs/howto/defence.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from adversary.common.convert import OptionError, Value, as_option
from adversary.common.hints import did_you_mean
from adversary.common.plugins import Registry, derived_from
from fl_sim.defences.augmentation import Augmentation
from fl_sim.defences.base import Defence, DefenceError, LocalUpdate
from fl_sim.defences.bound_noise import BoundNoise
from fl_sim.defences.bound_pruning import BoundPruning
from fl_sim.defences.central_dp import CentralDp
from fl_sim.defences.dp_sgd import DpSgd
from fl_sim.defences.freezing import Freezing
from fl_sim.defences.gaussian_noise import GaussianNoise
from fl_sim.defences.large_batch import LargeBatch
from fl_sim.defences.local_dp import LocalDp
from fl_sim.defences.mixup import MixUp
from fl_sim.defences.more_steps import MoreSteps
from fl_sim.defences.none import NoDefence
from fl_sim.defences.partial_sharing import PartialSharing
from fl_sim.defences.percentile_noise import PercentileNoise
from fl_sim.defences.percentile_privacy import PercentilePrivacy
from fl_sim.defences.quantise import Quantise
from fl_sim.defences.secure_aggregation import SecureAggregation
from fl_sim.defences.soteria import Soteria
from fl_sim.defences.top_k import TopK

__all__ = [
    "DEFENCES",
    "Defence",
    "DefenceError",
    "LocalUpdate",
    "create",
    "options_of",
    "typed_option",
]

_KINDS = (int, float, str)


def _fault(name: str, cls: type[Defence]) -> str | None:
    """Return what keeps a class from outside from being a defence."""
    if "__dataclass_fields__" not in vars(cls):
        return f"{cls.__name__} is no dataclass; decorate it with @dataclass(frozen=True)"
    if not hasattr(cls, "protects"):
        return f"{cls.__name__}.protects is missing: what it protects against whom"
    kinds = get_type_hints(cls)
    for option in vars(cls)["__dataclass_fields__"]:
        if kinds[option] not in _KINDS:
            return f"{cls.__name__}.{option} must be int, float or str, for text to set it"
    return None


DEFENCES: Registry[type[Defence]] = Registry(
    {
        "none": NoDefence,
        "gaussian-noise": GaussianNoise,
        "bound-noise": BoundNoise,
        "dp-sgd": DpSgd,
        "local-dp": LocalDp,
        "central-dp": CentralDp,
        "secure-aggregation": SecureAggregation,
        "percentile-noise": PercentileNoise,
        "percentile-privacy": PercentilePrivacy,
        "top-k": TopK,
        "bound-pruning": BoundPruning,
        "quantise": Quantise,
        "soteria": Soteria,
        "partial-sharing": PartialSharing,
        "freezing": Freezing,
        "mixup": MixUp,
        "augmentation": Augmentation,
        "large-batch": LargeBatch,
        "more-steps": MoreSteps,
    },
    group="fl_sim.defences",
    fault=derived_from(Defence, _fault),
)


def options_of(cls: type[Defence]) -> dict[str, tuple[type, Value]]:
    """Return the parameters of a defence, with their types and defaults."""
    hints = get_type_hints(cls)
    fields: tuple[Any, ...] = dataclasses.fields(cls)  # type: ignore[arg-type]  # a frozen dataclass, as _fault says
    return {field.name: (hints[field.name], field.default) for field in fields}


def typed_option(name: str, option: str, value: object) -> Value:
    """Return a parameter of the defence ``name`` with the type that it has; it may be text.

    Raises
    ------
    DefenceError
        One line, if there is no such option, or the value does not fit.
    """
    kinds = {option: kind for option, (kind, _) in options_of(DEFENCES[name]).items()}
    try:
        return as_option(option, value, kinds, name, also=["name"])
    except OptionError as error:
        raise DefenceError(f"defence.{error}") from error


def create(name: str, options: Mapping[str, Value] | None = None) -> Defence:
    """Make a defence, e.g. ``create("gaussian-noise", {"scale": 0.1})``; numbers may be text.

    Raises
    ------
    DefenceError
        One line, if there is no such defence or option, or a value does not fit.
    """
    if name not in DEFENCES:
        raise DefenceError(
            f"defence.name = {name!r}: must be one of {', '.join(DEFENCES)}"
            + did_you_mean(name, DEFENCES)
        )
    cls = DEFENCES[name]
    values: dict[str, Any] = {
        option: typed_option(name, option, value) for option, value in (options or {}).items()
    }
    try:
        return cls(**values)
    except DefenceError as error:
        raise DefenceError(f"defence.{error}") from error
