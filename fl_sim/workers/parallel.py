"""Processes of this machine that work on independent tasks, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import Parallel
from joblib.externals.loky import get_reusable_executor


@contextmanager
def parallel_jobs(jobs: int) -> Iterator[Parallel]:
    """Yield a joblib pool of ``jobs`` workers that returns results as they complete.

    With one, tasks run in this process. Otherwise no process outlives the block, however it ends.
    """
    try:
        yield Parallel(
            n_jobs=jobs, pre_dispatch="n_jobs", batch_size=1, return_as="generator_unordered"
        )
    finally:
        if jobs > 1:
            get_reusable_executor().shutdown(kill_workers=True)  # else they wait for more, or go on
