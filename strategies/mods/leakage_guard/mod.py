"""The mod: one line and a page for each update, and the update only where it may leave."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message
from flwr.supercore import log
from torch import nn

from adversary.common.errors import UserError, one_line_error
from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms import Mechanism, Nothing, RelativeNoise
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.report import guard_page
from strategies.messages import recipe_from_config
from strategies.mods.leakage_guard.assessment import Assessment, Assessor, PrivateData
from strategies.mods.leakage_guard.policy import Decision, GuardPolicy
from strategies.mods.updates import ClientUpdate, UpdateMod
from strategies.replies import num_examples

RECORD = "leakage-guard"
"""Name of the record of a reply in which the server is told of noise that the guard added."""

WITHHELD = "the client withholds its update"
"""All that the server is told of an update that does not leave."""


class WithheldError(UserError, RuntimeError):
    """An update that is not to leave; its text goes to the server."""


class LeakageGuard(UpdateMod):
    """Attacks the client's own update before it is sent, and sends, blurs or refuses it.

    The attack is the ``standard`` adversary at its quick effort, by a server that knows recipe
    and defence and as many X-rays as the hospital has held out; identification asks whether the
    own X-rays can be told from those. The figures are measured with the truth at hand.

    It belongs first in the list of mods, so that it sees what leaves. Nothing of the figures
    goes to the server: an update that is refused is an error of one constant text, one that is
    blurred says by how much, in a record ``leakage-guard`` beside the arrays. That an update is
    refused or blurred tells the server that it would have shown something.

    Parameters
    ----------
    model : nn.Module
        The architecture, named as the arrays in the messages.
    data : callable
        From the message and the client's context to what was trained on.
    recipe : TrainingRecipe
        The local training. ``lr`` and ``proximal-mu`` in a message's config take precedence.
    policy : GuardPolicy
        The hospital's limits.
    folder : Path
        On the hospital's disk, for guard.csv and guard.html; a folder of its own for each node,
        by its ``partition-id``.
    defence : Mechanism, optional
        What further mods do to the update before, for the attacker knows it.
    seed : int, optional
        See :class:`~strategies.mods.updates.UpdateMod`.

    Examples
    --------
    >>> guard = LeakageGuard(
    ...     Net(), own_data, TrainingRecipe(lr=0.1, batch_size=8),
    ...     GuardPolicy(max_psnr=22.0, max_named=0.5), Path("/var/lib/guard"),
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        data: Callable[[Message, Context], PrivateData],
        recipe: TrainingRecipe,
        policy: GuardPolicy,
        folder: Path,
        *,
        defence: Mechanism | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        self.data, self.recipe, self.policy = data, recipe, policy
        self.folder = folder
        self.defence = defence or Nothing()
        self.assessor = Assessor(
            model=model,
            seconds=policy.seconds,
            identification=policy.max_named is not None,
            seed=seed or 0,
        )

    def protect(self, update: ClientUpdate) -> None:
        """Leave the reply as it is, blur it, or raise.

        Raises
        ------
        WithheldError
            Where the update is not to leave.
        """
        row: dict[str, Any] = {"round": update.round, "time": _now()}
        try:
            decision = self._decide(update, row)
        except Exception as error:  # whatever it is, the hospital has said what is to follow
            row["reason"] = one_line_error(error)
            beyond = row.get("decision") == "blur"  # a limit, and could not be blurred
            decision = row["decision"] = "refuse" if beyond else self.policy.on_failure
        try:
            guard_page.append(self._folder(update.context), row, self.policy.limits)
        except OSError as error:
            log(WARNING, "leakage guard: nothing could be written: %s", one_line_error(error))
            decision = "refuse" if self.policy.on_failure == "refuse" else decision
        level = INFO if decision == "send" else WARNING
        log(level, "leakage guard: round %d: %s", update.round, decision)
        if decision == "refuse":
            raise WithheldError(WITHHELD)

    def error_text(self, error: Exception) -> str:
        """Return what the server is told: nothing of what went wrong."""
        return WITHHELD

    def _decide(self, update: ClientUpdate, row: dict[str, Any]) -> Decision:
        """Assess the update, blur it where that is asked for, and note all in ``row``."""
        data = self.data(update.message, update.context)
        observation = self._observation(update)
        channel = self.defence.channel(observation)
        found = self.assessor.assess(observation, ThreatModel(channel=channel), data)
        row |= {"images": len(data.images), **_figures(found)}
        row["decision"], row["reason"] = self.policy.judged(found)
        if row["decision"] == "blur":
            row["decision"] = self._blurred(update, observation, data, row)
        return row["decision"]

    def _blurred(
        self, update: ClientUpdate, observation: Observation, data: PrivateData, row: dict[str, Any]
    ) -> Decision:
        """Put the least noise into the reply with which the update may leave."""
        for scale in self.policy.noise:
            noise = RelativeNoise(scale=scale)
            released = noise.release(update.sent, update.returned, generator=self.generator(update))
            seen = dataclasses.replace(observation, returned=released)
            channel = _both(self.defence.channel(seen), noise.channel(seen))
            found = self.assessor.assess(seen, ThreatModel(channel=channel), data)
            row["seconds"] += found.seconds
            decision, why = self.policy.judged(found)
            if decision == "send":
                row |= {f"{name}_after": getattr(found, name) for name in guard_page.FIGURES}
                row |= {"noise": scale, "reason": f"{row['reason']}; then {why}"}
                self._release(update, released, scale)
                return "blur"
        row["reason"] += f"; no noise up to {self.policy.noise[-1]:g} is enough"
        return "refuse"

    def _release(self, update: ClientUpdate, released: StateDict, scale: float) -> None:
        update.replace(released)
        update.reply.content[RECORD] = ConfigRecord({"noise-scale": scale})

    def _observation(self, update: ClientUpdate) -> Observation:
        recipe = self.recipe
        for config in update.message.content.config_records.values():
            recipe = recipe_from_config(recipe, config)
        return Observation(
            round=max(1, update.round),
            client="this client",
            sent=update.sent,
            returned=update.returned,
            num_examples=num_examples(update.reply.content),
            recipe=recipe,
        )

    def _folder(self, context: Context) -> Path:
        return self.folder / f"node-{context.node_config.get('partition-id', context.node_id)}"


def _both(before: Channel, noise: Channel) -> Channel:
    """Return the channel of a defence and of noise after it."""
    names = before.noise.keys() | noise.noise.keys()
    levels = {n: math.hypot(before.noise.get(n, 0.0), noise.noise.get(n, 0.0)) for n in names}
    return dataclasses.replace(before, noise=levels)


def _figures(found: Assessment) -> dict[str, Any]:
    names = (*guard_page.FIGURES, "null_psnr", "certificate", "member", "seconds")
    return {name: getattr(found, name) for name in names}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
