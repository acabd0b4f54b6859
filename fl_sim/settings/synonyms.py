"""Usual words for settings, of Flower's own examples and of other frameworks."""

from __future__ import annotations

SYNONYMS: dict[str, tuple[str, ...]] = {
    "seed": ("random-seed", "random-state"),
    "rounds": ("num-rounds", "server-rounds", "num-server-rounds", "global-epochs"),
    "clients": ("num-clients", "n-clients", "num-supernodes", "supernodes", "num-partitions"),
    "out": ("output", "output-dir", "out-dir", "save-path", "folder"),
    "data.name": ("dataset", "data-set", "dataset-name"),
    "data.path": ("data-dir", "data-path", "root", "dataset-path"),
    "data.image-size": ("img-size", "image-shape", "resolution"),
    "data.partition": ("partitioner", "partitioning"),
    "data.alpha": ("dirichlet-alpha",),
    "model.name": ("architecture", "arch", "net", "model"),
    "model.weights": ("checkpoint", "pretrained"),
    "local.epochs": ("local-epochs", "num-local-epochs", "num-epochs", "epoch"),
    "local.batch-size": ("bs", "batch", "train-batch-size", "local-batch-size"),
    "local.max-steps": ("steps", "local-steps", "num-steps"),
    "local.lr": ("learning-rate", "client-lr", "client-learning-rate", "eta-l"),
    "local.optimizer": ("optimiser", "optim"),
    "local.weight-decay": ("l2", "wd"),
    "strategy.name": ("aggregation", "aggregator", "strategy"),
    "strategy.fraction": ("fraction-train", "fraction-fit", "client-fraction"),
    "strategy.evaluate-fraction": ("fraction-evaluate",),
    "strategy.proximal-mu": ("mu",),
    "defence.name": ("defense", "defence"),
    "defence.epsilon": ("eps", "target-epsilon", "privacy-budget"),
    "defence.clip": ("clipping-norm", "max-grad-norm", "max-norm"),
    "adversary.attack": ("attacks",),
}
"""By setting: words in lower case with hyphens. Not every defence has an epsilon or a clip."""
