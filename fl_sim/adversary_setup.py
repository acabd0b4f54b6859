"""From settings to the attacking side: attacks, their limits, the adversary, the bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from adversary.attacks import Attack, AttackOptionError
from adversary.attacks import create as create_attack
from adversary.attacks.adversary import Adversary
from adversary.bounds.cramer_rao import BoundBudget, BoundResult, cramer_rao_bound
from adversary.common.convert import Value
from adversary.common.errors import one_line_error
from adversary.common.seeding import derive_seed
from adversary.common.truth import Truth
from adversary.identification import Gallery, Identifier, check_public
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.threat_model import ThreatModel
from adversary.optim.search import Limits
from adversary.priors.public import Prior
from adversary.problem.problem import build_problem
from fl_sim.data import DataError
from fl_sim.data.files.images import decode, stack
from fl_sim.models import Classifier
from fl_sim.settings.derived import device, image_shape
from fl_sim.settings.rules import SettingsError, split_list
from fl_sim.settings.schema import Settings

BOUNDS = {
    "auto": BoundBudget(
        operations=1e11, probes=8, enough=0.5, tolerance=0.03, iterations=200, work=2e11
    ),
    "on": BoundBudget(work=2e12),
}
"""What the setting ``adversary.bounds`` spends on an update."""

QUICK_WORK = 0.02
"""Of the work of an automatic bound, where the effort is ``quick``."""

QUICK_PRODUCTS = 10
"""Products with a vector below which such a bound is not begun."""


def make_adversary(
    settings: Settings,
    model: Classifier,
    prior: Prior | None,
    *,
    updates: int = 1,
    candidates: Callable[[Observation], Gallery] | None = None,
) -> Adversary:
    """Return the adversary that the settings describe.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    model : Classifier
        What the server trains.
    prior : Prior or None
        Public X-rays.
    updates : int
        How many are attacked in a round at most; they share its time.
    candidates : callable, optional
        Among whom patients are looked for; by default they are not.
    """
    wanted = settings.adversary
    chosen = make_attacks(settings)
    identifies = candidates is not None and not why_not_identified(settings, prior)
    share = wanted.round_seconds / (updates * (len(chosen) + identifies))
    limit = min(wanted.seconds or math.inf, share or math.inf)
    seconds = limit if math.isfinite(limit) else None
    identifier = None
    if candidates is not None and identifies:
        identifier = Identifier(
            model, candidates=candidates, public=prior, seed=settings.seed, seconds=seconds
        )
    return Adversary(
        model,
        image_shape=image_shape(settings),
        attacks=chosen,
        prior=prior,
        seed=settings.seed,
        limits=Limits(seconds=seconds, evaluations=wanted.evaluations or None),
        device=settings.device,
        threads=wanted.num_cpus,
        identifier=identifier,
    )


def why_not_identified(settings: Settings, prior: Prior | None) -> str:
    """Return in a line why nobody is looked for in updates; empty where patients are."""
    if not settings.adversary.identify:
        return "adversary.identify is off"
    try:
        check_public(prior)
    except ValueError as error:
        return one_line_error(error)
    return ""


def make_bound(
    settings: Settings,
    model: Classifier,
    prior: Prior | None,
    channel: Callable[[Observation], Channel],
) -> Callable[[Observation, Truth], BoundResult] | None:
    """Return what finds the bound on an update; None where no bounds are wanted.

    The defence is taken as known, labels and batches as given, whatever the adversary is told.
    The prior is learned from public X-rays, never from the clients'.
    """
    wanted = settings.adversary.bounds
    if wanted == "off":
        return None
    budget = BOUNDS[wanted]
    if wanted == "auto" and settings.adversary.effort == "quick":
        work = QUICK_WORK * budget.work
        budget = dataclasses.replace(budget, work=work, fewest=QUICK_PRODUCTS)

    def bound_of(observation: Observation, truth: Truth) -> BoundResult:
        problem = build_problem(
            observation,
            ThreatModel(channel=channel(observation)),
            model,
            image_shape=image_shape(settings),
            device=device(settings),
            dtype=torch.float64,
        )
        return cramer_rao_bound(
            problem,
            truth,
            None if prior is None else prior.gaussian,
            budget=budget,
            seed=derive_seed(settings.seed, "bound", observation.round, observation.client),
        )

    return bound_of


def make_attacks(settings: Settings) -> list[Attack]:
    """Return the attacks that the settings name, with their options.

    Raises
    ------
    ValueError
        One line for an option that no chosen attack has, or a value that does not fit.
    """
    wanted = settings.adversary
    names = split_list(wanted.attack)
    options: dict[str, dict[str, Value]] = {name: {} for name in names}
    for key, value in wanted.options.items():  # each of an attack that is chosen
        name, _, option = key.partition(".")
        options[name][option] = value
    common: dict[str, object] = {
        "start_image": _start_image(settings),
        "reading": wanted.reading,
        "effort": wanted.effort,
        "frames": wanted.frames,
    }
    if wanted.restarts:
        common["restarts"] = wanted.restarts
    if wanted.start != "own":
        common["start"] = "+".join(split_list(wanted.start))
    return [_attack(name, options[name], common) for name in options]


def _attack(name: str, options: dict[str, Value], common: dict[str, object]) -> Attack:
    try:
        return create_attack(name, options, **common)
    except AttackOptionError as error:
        if str(error).startswith(f"{name}."):  # the attack knows its option, not our setting
            raise SettingsError(f"adversary.{error}") from error
        raise


def _start_image(settings: Settings) -> Tensor | None:
    """Return the image that attacks start from, (C, H, W) in [0, 1]."""
    name = settings.adversary.start_image
    if not name:
        return None
    try:
        picture = decode(Path(name).read_bytes(), name)
    except OSError as error:
        raise SettingsError(f"adversary.start-image = {name!r}: {error.strerror}") from error
    except DataError as error:
        raise SettingsError(f"adversary.start-image: {error}") from error
    channels, size, _ = image_shape(settings)
    return stack([(name, picture)], size, channels, name)[0].float() / 255
