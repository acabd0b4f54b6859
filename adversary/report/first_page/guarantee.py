"""What differential privacy promises in a run, in a statement and not as a bare epsilon.

After the statement of TensorFlow Privacy's ``compute_dp_sgd_privacy``: unit, neighbouring
relation, from whom, how composed, and whether the number is small enough to promise anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adversary.report.leakage_rows import SERVER_INCLUDED, Row, private_ceiling
from adversary.report.templating import epsilon as rounded
from adversary.scoring.verdict import PRIVATE_CEILING

_UNITS = {"example": "X-ray", "client": "hospital"}
"""What an account is of, in the words of a report."""

TOO_LARGE = 10.0
"""Epsilon from which a guarantee promises little: odds may change 22,000-fold (e**10)."""


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """The weakest account that a client of the run ends with; epsilon is finite.

    Parameters
    ----------
    epsilon, delta : float
        The loss, and the probability with which it may be exceeded.
    unit, neighbours, against, accountant : str
        Of what, under which neighbouring relation, from whom, and how it was added up.
    rounds : int
        In which the client took part.
    """

    epsilon: float
    delta: float
    unit: str
    neighbours: str
    against: str
    accountant: str
    rounds: int

    @property
    def too_large(self) -> bool:
        """Whether the epsilon promises little."""
        return self.epsilon > TOO_LARGE

    @property
    def holds_against_server(self) -> bool:
        """Whether the server is among those whom it limits."""
        return SERVER_INCLUDED in self.against

    @property
    def settles(self) -> bool:
        """Whether it leaves the server little more than chance, whatever an attack shows."""
        ceiling = private_ceiling(self.epsilon, self.delta)
        return self.holds_against_server and ceiling <= PRIVATE_CEILING

    @property
    def statement(self) -> str:
        """All of it in two sentences."""
        rounds = f"{self.rounds} round{'' if self.rounds == 1 else 's'}"
        said = (
            f"Differential privacy: ε = {in_full(self.epsilon)} at δ = {self.delta:.1e} for one "
            f"{self.unit} ({self.neighbours}), against {self.against}, over {rounds} "
            f"({self.accountant})."
        )
        return f"{said} {self.promise}"

    @property
    def promise(self) -> str:
        """What the epsilon is worth."""
        if self.too_large:
            return "This ε is too large to promise much."
        return (
            f"With or without that {self.unit}, the odds of anything that is concluded change at "
            f"most {factor(self.epsilon)}-fold, but for a probability of δ."
        )


def guarantee_of(accounts: list[Row]) -> Guarantee | None:
    """Return the weakest account of the clients; None where a client has none that is finite."""
    if not accounts or any(
        row["epsilon"] is None or not math.isfinite(row["epsilon"]) for row in accounts
    ):
        return None
    worst = max(accounts, key=lambda row: row["epsilon"])
    return Guarantee(
        epsilon=float(worst["epsilon"]),
        delta=float(worst["delta"] or 0.0),
        unit=_UNITS.get(worst["unit"], str(worst["unit"] or "unit")),
        neighbours=str(worst["neighbours"] or "neighbours not stated"),
        against=str(worst["against"] or "nobody who is named"),
        accountant=str(worst["accountant"] or "accountant not stated"),
        rounds=int(worst["rounds"] or 0),
    )


def in_full(epsilon: float) -> str:
    """Return an epsilon without powers of ten where it can be read."""
    return f"{epsilon:,.0f}" if 100 <= epsilon < 1e9 else rounded(epsilon)


def factor(epsilon: float) -> str:
    """Return e**epsilon for reading, to two digits and rounded up: it is a limit."""
    value = math.exp(epsilon)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:,.{1 if value < 10 else 0}f}"
