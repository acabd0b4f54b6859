"""What the members of the ensemble may cost: budgets, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Budgets of the ensemble's members, in work, not in time, so that a run can be repeated.

    Parameters
    ----------
    operations : float
        Multiplications that one start of a member may take, roughly; 1e10 a second on one core.
    iterations : int
        Of attacks by first-order steps, at most.
    starts : int
        From which second-order steps are tried at most, where the first explains nothing.
    stages : int
        Iterations of a stage of ``batch-statistics``.
    rehearsals : int
        On public X-rays, of a result of several images that is not proved, at most.
    """

    operations: float
    iterations: int
    starts: int
    stages: int
    rehearsals: int


EFFORTS: dict[str, Effort] = {
    "quick": Effort(operations=1e11, iterations=300, starts=1, stages=60, rehearsals=1),
    "standard": Effort(operations=6e11, iterations=1000, starts=2, stages=150, rehearsals=2),
    "thorough": Effort(operations=3e13, iterations=20_000, starts=6, stages=300, rehearsals=4),
}
"""By name, as ``adversary.effort`` has them."""
