"""The names that settings take, known without importing what they name.

What they name needs torch, which takes seconds to import: too long to be told of a misspelt word.
A test compares each list with the registry that it is of. Once that is imported it is asked
itself, since code may have registered more.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import entry_points


@dataclass(frozen=True)
class Names:
    """The names in a registry, read when they are asked for.

    Parameters
    ----------
    home : str
        Where the registry is: ``module:attribute``.
    built_in : tuple of str
        The project's own, in its order.
    group : str
        Group of entry points that add to it; empty where none do.
    before, after : tuple of str
        Names that the setting takes beside them.
    """

    home: str
    built_in: tuple[str, ...]
    group: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """Return them, those of plug-ins included."""
        return (*self.before, *self._registered(), *self.after)

    def _registered(self) -> tuple[str, ...]:
        module, _, attribute = self.home.partition(":")
        registry = getattr(sys.modules.get(module), attribute, None)
        if registry is not None:
            return tuple(registry)
        plugins = entry_points(group=self.group) if self.group else ()
        return tuple(dict.fromkeys([*self.built_in, *sorted(point.name for point in plugins)]))


ATTACKS = Names(
    "adversary.attacks:ATTACKS",
    ("standard", "dlg", "igi", "ing", "stg", "encgrad", "map", "gauss-newton", "batch-statistics",
     "recursive", "encoder"),
    group="adversary.attacks",
)  # fmt: skip
EFFORTS = Names("adversary.attacks.standard.effort:EFFORTS", ("quick", "standard", "thorough"))
START_IMAGES = Names(
    "adversary.attacks.initial_images:INITIAL_IMAGES",
    ("randn", "rand", "zeros", "grey", "mean"),
    before=("own",),
    after=("image",),
)
READINGS = Names(
    "adversary.problem.update_models:UPDATE_MODELS",
    ("one-gradient", "surrogate", "unrolled"),
    before=("auto",),
)
SCHEDULES = Names("adversary.observation.schedules:SCHEDULES", ("constant", "cosine", "step"))
CLIENT_OPTIMIZERS = Names("adversary.problem.client_optimizers:CLIENT_OPTIMIZERS", ("sgd", "adam"))
DATASETS = Names(
    "fl_sim.data.loading:DATASETS",
    ("chestmnist", "embedded", "folder", "huggingface", "kermany", "nih", "phantom",
     "pneumoniamnist", "sample"),
    group="fl_sim.data",
)  # fmt: skip
PARTITIONS = Names("fl_sim.data.partition:PARTITIONS", ("iid", "dirichlet", "quantity"))
UNCERTAIN = Names("fl_sim.data.entries:UNCERTAIN", ("refuse", "zeros", "ones"))
PATIENTS = Names("fl_sim.data.identity:PATIENTS", ("auto", "image", "folder", "name"))
ON_ERROR = Names("fl_sim.data.loading:ON_ERROR", ("stop", "skip"))
MODELS = Names(
    "fl_sim.models:MODELS",
    ("lenet", "convnet", "resnet18", "resnet50", "densenet121", "resnet18-sigmoid", "mobilenet",
     "efficientnet0", "efficientnet-b0", "convnext-tiny"),
)  # fmt: skip
NORMS = Names("fl_sim.models:NORMS", ("batch", "group"))
ACTIVATIONS = Names(
    "fl_sim.models.convnet:ACTIVATIONS", ("relu", "gelu", "silu", "sigmoid", "tanh", "softplus")
)
FROZEN_PARTS = Names(
    "fl_sim.models.freezing:FROZEN_PARTS", ("none", "batch-norm", "all-but-last", "middle")
)
IMAGENET = "imagenet"
"""What ``model.weights`` says for torchvision's, in place of a path."""

OF_FILES = ("folder", "kermany", "nih")
"""Data sets that need a ``data.path``."""

WITHOUT_FILES = ("embedded", "phantom", "sample")
"""Data sets that read no ``data.path``."""

DEFENCES = Names(
    "fl_sim.defences:DEFENCES",
    ("none", "gaussian-noise", "bound-noise", "dp-sgd", "local-dp", "central-dp",
     "secure-aggregation", "percentile-noise", "percentile-privacy", "top-k", "bound-pruning",
     "quantise", "soteria", "partial-sharing", "freezing", "mixup", "augmentation", "large-batch",
     "more-steps"),
    group="fl_sim.defences",
)  # fmt: skip
