"""Small faults in lines that have changed, and which of them the tests notice.

python -m benchmarks mutants [--since main~10] [--sample 20]

Cosmic Ray makes the faults (``pip install '.[mutants]'``), in the lines that differ from a commit.
Each of a random sample is tried by itself: the file is changed, the tests that mirror it run, and
it is changed back. Those that all tests passed are printed; a test of the behaviour is missing, or
the fault changes nothing. Work on a clean checkout: the files are changed in place.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adversary", "strategies", "fl_sim")
UNSEEN = "core/ReplaceBinaryOperator_BitOr_"
"""Beginning of the operators left out: most ``|`` are between types, which nothing evaluates."""


def mirrored(module: Path, tests: Path = ROOT / "tests") -> list[Path]:
    """Return the tests of a module: its own file, else those of the nearest folder that has any.

    Parameters
    ----------
    module : Path
        From the checkout's root, e.g. ``adversary/optim/loop.py``.
    tests : Path
        The folder of tests.
    """
    own = tests / module.with_name(f"test_{module.name}")
    if own.exists():
        return [own]
    for folder in module.parents:
        if found := sorted((tests / folder).glob("test_*.py")):
            return found
    return []


def changed(since: str) -> list[Path]:
    """Return the modules of the packages that differ from a commit."""
    command = ["git", "diff", "--name-only", "--diff-filter=d", since, "--", *PACKAGES]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [Path(name) for name in done.stdout.split() if name.endswith(".py")]


def faults(since: str) -> list[Any]:
    """Return Cosmic Ray's work items for the lines that differ from a commit."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import use_db

    with tempfile.TemporaryDirectory() as folder:
        session, config = Path(folder, "session.sqlite"), Path(folder, "config.toml")
        config.write_text(f'[cosmic-ray.filters.git-filter]\nbranch = "{since}"\n')
        with use_db(str(session)) as database:
            init(changed(since), database, {})
        tool = Path(sysconfig.get_path("scripts"), "cr-filter-git")
        subprocess.run([tool, session, "--config", config], cwd=ROOT, check=True)
        with use_db(str(session)) as database:
            items = list(database.pending_work_items)
    return [one for one in items if not one.mutations[0].operator_name.startswith(UNSEEN)]


def tried(module: Path, mutations: Sequence[Any], seconds: float) -> Any:
    """Return Cosmic Ray's result of changes to a module under the tests that mirror it."""
    from cosmic_ray.mutating import mutate_and_test

    tests = map(str, mirrored(module))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return mutate_and_test(mutations, shlex.join(command), seconds)


@cache
def check_tests(module: Path, seconds: float) -> None:
    """End the program where tests fail, or take too long, without a fault as well."""
    if (result := tried(module, (), seconds)).is_killed:
        raise SystemExit(f"{module}: its tests fail without a fault\n{result.output}")


def main() -> None:
    """Try a sample, and print what was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--since", default="main", help="commit to differ from (main)")
    parser.add_argument("--sample", type=int, default=20, help="faults to try (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--seconds", type=float, default=300, help="most for a fault (300)")
    given = parser.parse_args()
    with contextlib.chdir(ROOT):  # Cosmic Ray's paths are relative
        try_sample(given.since, given.sample, given.seed, given.seconds)


def try_sample(since: str, count: int, seed: int, seconds: float) -> None:
    """Try ``count`` faults in lines that differ from a commit, and print what becomes of each."""
    found = sorted(faults(since), key=lambda one: repr(one.mutations))
    sample = random.Random(seed).sample(found, min(count, len(found)))
    print(f"{len(sample)} of {len(found)} faults in the lines that differ from {since}")
    passed = 0
    for number, fault in enumerate(sample, 1):
        module = fault.mutations[0].module_path
        check_tests(module, seconds)
        result = tried(module, fault.mutations, seconds)
        passed += not result.is_killed
        noticed = "noticed" if result.is_killed else "NOT NOTICED"
        print(f"{number}: {module}: {noticed}", flush=True)
        if not result.is_killed:
            print(result.diff, flush=True)
    print(f"{len(sample) - passed} of {len(sample)} were noticed")


if __name__ == "__main__":
    main()
