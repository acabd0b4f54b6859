"""What settings of differential privacy really earn, beside what they claim.

Flower's ``LocalDpMod`` takes the sensitivity and the clipping norm as two numbers that nothing ties
together: with noise for a sensitivity of 1e-4 and updates clipped to 1, an epsilon of 10 is one of
200 million. Here the noise that a mechanism adds is worked out as the mechanism does it, and its
epsilon from the distance that neighbours can really have.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

from adversary.common.errors import UserError
from adversary.common.hints import did_you_mean
from fl_sim.defences.accounting import Neighbours, Unit, default_delta

LARGE = 10.0
"""Epsilon from which a guarantee promises next to nothing: odds may change by a factor of e^10."""

TOLERANCE = 0.01
"""Share by which an earned epsilon may exceed the claimed one and still count as claimed."""


class CheckError(UserError, ValueError):
    """Privacy settings that cannot be checked as given; one line."""


@dataclass(frozen=True, kw_only=True)
class Earned:
    """An epsilon that a mechanism earns.

    Parameters
    ----------
    round_epsilon, epsilon : float
        Of one round, and of all of them; infinite without noise.
    delta : float
        Of each.
    neighbours : str
        Which data sets are not to be told apart.
    unit : {"example", "client"}
        What is added, removed or replaced.
    accountant : str
        Who worked it out.
    """

    round_epsilon: float
    epsilon: float
    delta: float
    neighbours: Neighbours
    unit: Unit
    accountant: str


@dataclass(frozen=True, kw_only=True)
class Mechanism(ABC):
    """Settings of a mechanism; its fields are what a user gives.

    Attributes
    ----------
    against : str
        From whom it protects.
    """

    against: ClassVar[str]

    @property
    @abstractmethod
    def sigma(self) -> float:
        """Standard deviation of the noise, in the units of ``clip``."""

    @abstractmethod
    def earned(self) -> list[Earned]:
        """Return what the settings earn, under each relation of neighbours that applies."""

    @property
    def claimed(self) -> float | None:
        """Epsilon that the settings name, of a round; None where they name none."""
        return None


@dataclass(frozen=True, kw_only=True)
class LocalDpMod(Mechanism):
    """Flower's ``LocalDpMod``: the update of a client is clipped, and blurred in the client.

    Its noise has the standard deviation sensitivity sqrt(2 ln(1.25 / delta)) / epsilon (Dwork and
    Roth 2014, theorem A.1, which holds for epsilon up to 1).

    Parameters
    ----------
    clipping_norm, sensitivity, epsilon, delta : float
        Its arguments, each > 0.
    rounds : int
        In how many rounds a client answers, >= 1.
    """

    clipping_norm: float
    sensitivity: float
    epsilon: float
    delta: float = 1e-5
    rounds: int = 1

    against = "everyone who sees updates or models, the server included"

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, in units of the weights."""
        return self.sensitivity * math.sqrt(2 * math.log(1.25 / self.delta)) / self.epsilon

    @property
    def claimed(self) -> float:
        """Its ``epsilon``."""
        return self.epsilon

    def earned(self) -> list[Earned]:
        """Two clients' updates lie up to twice the norm apart, an update and none one norm."""
        return [
            _gaussian(self.sigma / self.clipping_norm, self.rounds, self.delta, "client"),
            _gaussian(
                self.sigma / (2 * self.clipping_norm),
                self.rounds,
                self.delta,
                "client",
                "replace one",
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class CentralDp(Mechanism):
    """Flower's fixed clipping in the server: the mean of clipped updates is blurred.

    Parameters
    ----------
    clipping_norm, noise_multiplier : float
        Arguments of ``DifferentialPrivacyServerSideFixedClipping``.
    delta : float
        In (0, 1).
    rounds : int
        Of the run, >= 1.
    """

    clipping_norm: float
    noise_multiplier: float
    delta: float = 1e-5
    rounds: int = 1

    against = "everyone but the server, which sees the updates themselves"

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on the sum of updates."""
        return self.noise_multiplier * self.clipping_norm

    def earned(self) -> list[Earned]:
        """All clients answer in each round, so that nothing is gained by sampling."""
        return [_gaussian(self.noise_multiplier, self.rounds, self.delta, "client")]


@dataclass(frozen=True, kw_only=True)
class DpSgd(Mechanism):
    """DP-SGD in a client: clipped gradients of a Poisson batch, blurred.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise over the clipping norm, >= 0.
    batch_size, examples : int
        Expected images a batch, and images of the client.
    epochs, rounds : int
        Epochs a round, and rounds.
    delta : float
        In (0, 1); 0 is min(0.01, 0.9 / examples), as Ziegler et al. 2022 have it.
    """

    noise_multiplier: float
    batch_size: int
    examples: int
    epochs: int = 1
    rounds: int = 1
    delta: float = 0.0

    against = "everyone who sees updates or models, the server included"

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise over the clipping norm."""
        return self.noise_multiplier

    def earned(self) -> list[Earned]:
        """By the privacy loss distribution (dp_accounting) and by Renyi's divergence (opacus)."""
        rate = self.batch_size / self.examples
        if rate > 1:
            raise CheckError(
                f"batch_size = {self.batch_size}: must be at most examples = {self.examples}"
            )
        steps = self.epochs * math.ceil(self.examples / self.batch_size)
        delta = self.delta or default_delta(self.examples)
        return [
            Earned(
                round_epsilon=accountant(self.noise_multiplier, rate, steps, delta),
                epsilon=accountant(self.noise_multiplier, rate, steps * self.rounds, delta),
                delta=delta,
                neighbours="add or remove one",
                unit="example",
                accountant=name,
            )
            for name, accountant in (("PLD (dp_accounting)", _pld), ("RDP (opacus)", _rdp))
        ]


MECHANISMS: dict[str, type[Mechanism]] = {
    "local-dp-mod": LocalDpMod,
    "central-dp": CentralDp,
    "dp-sgd": DpSgd,
}
"""By name."""


def create(name: str, options: Mapping[str, str]) -> Mechanism:
    """Make a mechanism of options as text, e.g. ``create("dp-sgd", {"noise_multiplier": "1"})``.

    Raises
    ------
    CheckError
        One line, if there is no such mechanism or option, or a value does not fit.
    """
    if name not in MECHANISMS:
        raise CheckError(
            f"{name}: must be one of {', '.join(MECHANISMS)}{did_you_mean(name, MECHANISMS)}"
        )
    cls = MECHANISMS[name]
    fields = {f.name: f for f in dataclasses.fields(cls)}
    kinds = get_type_hints(cls)
    values: dict[str, Any] = {}
    for given, text in options.items():
        option = given.replace("-", "_")
        if option not in fields:
            hint = did_you_mean(option, fields)
            raise CheckError(f"{given}: {name} has {', '.join(fields)}{hint}")
        values[option] = _value(option, text, kinds[option])
    missing = [f for f in fields if f not in values and fields[f].default is dataclasses.MISSING]
    if missing:
        raise CheckError(f"{name}: needs {', '.join(missing)} as well")
    return cls(**values)


def report(mechanism: Mechanism) -> list[str]:
    """Return what is earned beside what is claimed, in lines of plain words."""
    lines = [f"noise: standard deviation {mechanism.sigma:.4g}"]
    earned = mechanism.earned()
    for one in earned:
        whole = f", {_epsilon(one.epsilon)} over all rounds"
        lines.append(
            f"earned: epsilon {_epsilon(one.round_epsilon)} a round{whole} (delta {one.delta:.2g}, "
            f"{one.neighbours}, one {one.unit}; {one.accountant})"
        )
    lines.append(f"protects from {mechanism.against}")
    return [*lines, *_conclusions(mechanism.claimed, earned)]


def _conclusions(claimed: float | None, earned: Sequence[Earned]) -> list[str]:
    found = []
    least = min(one.round_epsilon for one in earned)
    if claimed is not None and least > (1 + TOLERANCE) * claimed:
        found.append(
            f"WRONG: the settings claim epsilon {_epsilon(claimed)} a round and earn "
            f"{_epsilon(least)} at the most favourable reading"
        )
    if min(one.epsilon for one in earned) > LARGE:
        found.append(f"an epsilon above {LARGE:g} promises next to nothing")
    return found


def _gaussian(
    multiplier: float,
    rounds: int,
    delta: float,
    unit: Unit,
    neighbours: Neighbours = "add or remove one",
) -> Earned:
    """Return what the Gaussian mechanism earns, exactly (Balle and Wang, ICML 2018).

    k mechanisms of one noise multiplier are one of that multiplier over sqrt(k).
    """
    from dp_accounting import get_epsilon_gaussian  # slow to import

    def epsilon(times: int) -> float:
        if not multiplier:
            return math.inf
        return float(get_epsilon_gaussian(multiplier / math.sqrt(times), delta))

    return Earned(
        round_epsilon=epsilon(1),
        epsilon=epsilon(rounds),
        delta=delta,
        neighbours=neighbours,
        unit=unit,
        accountant="exact (dp_accounting)",
    )


def _pld(multiplier: float, rate: float, steps: int, delta: float) -> float:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    if not multiplier:
        return math.inf
    accountant = PLDAccountant()
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), steps)
    return float(accountant.get_epsilon(delta))


def _rdp(multiplier: float, rate: float, steps: int, delta: float) -> float:
    from fl_sim.defences.accounting import gaussian_account

    account = gaussian_account(
        noise_multiplier=multiplier,
        steps=steps,
        delta=delta,
        unit="example",
        against="",
        sample_rate=rate,
    )
    return math.inf if account is None else account.epsilon


def _value(option: str, text: str, kind: type) -> float | int:
    allowed = "a whole number from 1" if kind is int else "a number above 0"
    if option == "noise_multiplier":
        allowed = "a number from 0"
    try:
        value = int(text) if kind is int else float(text)
    except ValueError:
        raise CheckError(f"{option} = {text!r}: must be {allowed}") from None
    least = 1 if kind is int else 0
    valid = value >= least if kind is int or option == "noise_multiplier" else value > least
    if not (valid and math.isfinite(value)):
        raise CheckError(f"{option} = {text}: must be {allowed}")
    if option == "delta" and value >= 1:
        raise CheckError(f"delta = {text}: must be above 0 and below 1")
    return value


def _epsilon(value: float) -> str:
    if math.isinf(value):
        return "infinite (no noise)"
    return f"{value:,.4g}" if value < 1e4 else f"{value:.3g}"
