"""Let a strategy run its own ``start``, with the steps of a wrapper around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.serverapp.strategy import Strategy

STEPS = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")
"""What ``start`` calls in every round."""

Step = Callable[..., Any]


@contextmanager
def redirected(strategy: Strategy, through: Strategy) -> Iterator[None]:
    """Send what ``strategy.start`` calls in a round through a wrapper, for the time of a run.

    A strategy may have a ``start`` of its own, which keeps the best model or writes results, and
    which calls ``self.configure_train`` and the like. While this is open these calls go to
    ``through``; what ``through`` asks of the strategy in return goes to the strategy's own steps.

    Parameters
    ----------
    strategy : Strategy
        Whose ``start`` is to be called.
    through : Strategy
        A wrapper around it, however far out.
    """
    own = vars(strategy)
    before = {name: own[name] for name in STEPS if name in own}
    steps = {name: _by_way_of(getattr(through, name), getattr(strategy, name)) for name in STEPS}
    own.update(steps)
    try:
        yield
    finally:
        for name in STEPS:
            del own[name]
        own.update(before)


def _by_way_of(outer: Step, inner: Step) -> Step:
    """Return a step that calls ``outer``, and ``inner`` where ``outer`` comes back to it."""
    within = False

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal within
        if within:
            return inner(*args, **kwargs)
        within = True
        try:
            return outer(*args, **kwargs)
        finally:
            within = False

    return step
