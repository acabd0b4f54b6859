"""One call around a strategy of anybody's app: the adversary, its report, and what it assumes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import torch
from flwr.app import Message
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log
from torch import Tensor, nn

from adversary import Adversary, Limits, Prior, TrainingRecipe
from adversary.attacks import Attack, create
from adversary.common.hints import did_you_mean
from adversary.observation.observation import Observation
from adversary.problem.foreign_models import Adapted, Normalisation, adapt
from adversary.problem.pixel_mean import mean_input
from adversary.problem.recipe_estimates import reconciled
from adversary.report.ledger import Ledger
from adversary.scoring.scorer import Scorer
from adversary.storage.run_folder import RunFolder
from strategies.honest_but_curious import HonestButCurious
from strategies.messages import rate_keys
from strategies.wrappers.base import StrategyError, StrategyWrapper

ASSUMED = {"lr": 0.01, "batch_size": 32}
"""Of the recipe, until the update tells better."""

LIKELY_MEANS = 0.05, 0.95
"""Mean values of images in [0, 1]; others are taken for images normalised on the way."""

SOFTMAX = (
    "the model ends in a softmax: the loss is taken for CrossEntropyLoss of what it returns; "
    "if it is NLLLoss of the logarithm, give a model that ends in the logits"
)


class CuriousStrategy(HonestButCurious):
    """An honest-but-curious server around an app of which it was told a part.

    Made by :func:`curious`. What was not told is estimated from each update, and said once in the
    log and in the notes of every attack; what an update contradicts is flagged
    (``recipe-contradicted``).

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    adversary : Adversary
        Runs the attacks.
    recipe : TrainingRecipe
        What was told, and defaults.
    told : frozenset of str
        The fields of the recipe that were told.
    ledger : Ledger
        Writes the report.
    """

    told: frozenset[str]
    _said: set[str]

    def __init__(
        self,
        strategy: Strategy,
        adversary: Adversary,
        recipe: TrainingRecipe,
        *,
        told: frozenset[str],
        ledger: Ledger,
    ) -> None:
        super().__init__(strategy, adversary, recipe, ledger=ledger)
        self.told = told
        self._said = set()

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the wrapped strategy's own ``start``, and say where the report is."""
        try:
            return super().start(*args, **kwargs)
        finally:
            if self.ledger is not None:
                log(INFO, "report: %s", self.ledger.folder.path.absolute() / "report.html")

    def _observation(self, server_round: int, reply: Message) -> Observation | None:
        """Return what a reply shows, with a recipe that fits it."""
        seen = super()._observation(server_round, reply)
        if seen is None:
            return None
        adversary = self.adversary
        fitted = reconciled(
            seen,
            adversary.model,
            image_shape=adversary.image_shape,
            told=self.told | ({"lr"} if rate_keys(self.sent_config) else set()),
            prior=adversary.prior,
        )
        for note in fitted.notes:
            self._say(f"{seen.name}: {note}")
        return dataclasses.replace(fitted, notes=(*fitted.notes, *self._doubts(fitted)))

    def _doubts(self, seen: Observation) -> tuple[str, ...]:
        """Return a line where the images look as if they were normalised on the way."""
        model = self.adversary.model
        mean = mean_input(seen, model, self.adversary.image_shape)
        centre, spread = getattr(model, "normalised_by", (0.0, 1.0))
        if mean is None or LIKELY_MEANS[0] <= mean * spread + centre <= LIKELY_MEANS[1]:
            return ()
        doubt = (
            f"the first layer saw images with a mean near {mean:.2g}, unlike images in [0, 1]: "
            "normalise = (mean, std) tells what the clients' loader does"
        )
        self._say(f"{seen.name}: {doubt}", WARNING)
        return (doubt,)

    def _say(self, line: str, level: int = INFO) -> None:
        """Log a line; one that differs in names and numbers alone was said."""
        subject = re.sub(r"[\d.e+-]+", "", line.partition(": ")[2])
        if subject not in self._said:
            self._said.add(subject)
            log(level, "%s", line)


def curious(
    strategy: Strategy,
    model: nn.Module,
    *,
    image_shape: tuple[int, int, int],
    normalise: Normalisation | None = None,
    attacks: str | Sequence[Attack] = "standard",
    public: Tensor | None = None,
    out: str | Path = "results/curious",
    seconds: float = 60.0,
    record: bool = False,
    scorer: Scorer | None = None,
    device: str = "auto",
    **told: Any,
) -> CuriousStrategy:
    """Put an honest-but-curious server around the strategy of an app; training stays the same.

    Parameters
    ----------
    strategy : Strategy
        Any strategy of flwr.serverapp; its own ``start``, methods and attributes stay in reach.
    model : nn.Module
        What the app trains, of images (B, C, H, W). It may end in a sigmoid or a log-softmax.
    image_shape : tuple of int
        (C, H, W) of the clients' images.
    normalise : tuple, optional
        (mean, std) of the clients' loader, where it normalises images in [0, 1]; numbers, or one
        for each channel.
    attacks : str or sequence of Attack
        Names, comma-separated, or attacks.
    public : Tensor, optional
        (N, C, H, W) in [0, 1]: images of the same kind, of nobody in the federation.
    out : str or Path
        Folder of the report. Where there is a run already, ``out-2`` and so on.
    seconds : float
        An attack on an update takes at most; training waits for it.
    record : bool
        Whether updates are kept; ``Observation.load`` reads one back.
    scorer : Scorer, optional
        Knows the true images, where somebody does.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    **told
        What is known of the local training: fields of
        :class:`~adversary.observation.recipe.TrainingRecipe`, such as ``batch_size``, ``lr``,
        ``momentum``, ``local_epochs``. The server's own ``lr`` in the config of a round is taken
        from there. What is not told is estimated from the updates.

    Returns
    -------
    CuriousStrategy
        To be started in place of ``strategy``.

    Raises
    ------
    StrategyError, ForeignModelError, AttackOptionError
        Where something does not fit, in one line.

    Examples
    --------
    >>> strategy = curious(FedAvg(), Net(), image_shape=(1, 28, 28), batch_size=32)
    >>> result = strategy.start(grid, ArrayRecord(Net().state_dict()))  # doctest: +SKIP
    """
    StrategyWrapper(strategy)  # what it is not is said before anything is made
    adapted = adapt(model, image_shape, normalise)
    recipe = _recipe(told, adapted)
    adversary = Adversary(
        adapted.model,
        image_shape=image_shape,
        attacks=_attacks(attacks),
        prior=None if public is None else Prior(public),
        limits=Limits(seconds=seconds),
        device=device,
    )
    if adapted.output == "softmax":
        log(WARNING, "%s", SOFTMAX)
    folder = RunFolder.create_next_to(
        out,
        title=f"{type(strategy).__name__}, observed",
        settings={
            "image_shape": image_shape,
            "normalise": normalise,
            "attacks": ", ".join(adversary.names),
            **told,
        },
        threat={"view": "client", "labels_known": False},
        device=str(adversary.device),
        versions={"torch": torch.__version__},
    )
    return CuriousStrategy(
        strategy,
        adversary,
        recipe,
        told=frozenset(told),
        ledger=Ledger(folder, scorer=scorer, record=record),
    )


def _recipe(told: dict[str, Any], adapted: Adapted) -> TrainingRecipe:
    """Return the recipe with what was told of it; the loss follows from the model's end."""
    fields = [field.name for field in dataclasses.fields(TrainingRecipe)]
    for name in told:
        if name not in fields:
            hint = did_you_mean(name, fields, {"lr": ("learning-rate", "eta")})
            raise StrategyError(f"{name}: unknown argument of curious{hint}")
    single = adapted.output == "sigmoid" or adapted.outputs == 1
    return TrainingRecipe(**({"loss": "bce" if single else "cross-entropy"} | ASSUMED | told))


def _attacks(wanted: str | Sequence[Attack]) -> list[Attack]:
    if isinstance(wanted, str):
        return [create(name.strip()) for name in wanted.split(",")]
    return list(wanted)
