"""A plug-in of pytest: a skip whose reason is not in allowed_skips.toml fails the suite."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ALLOWED = tuple(
    re.compile(skip["reason"])
    for skip in tomllib.loads(
        Path(__file__).resolve().parents[1].joinpath("allowed_skips.toml").read_text("utf-8")
    )["skip"]
)

_refused: list[str] = []


def is_allowed(reason: str) -> bool:
    """Return whether a test may be skipped for that reason."""
    return any(allowed.fullmatch(reason) for allowed in ALLOWED)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not is_allowed(reason):
        _refused.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at why a test was skipped."""
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Look at why a whole file was skipped."""
    _note(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a suite that would pass."""
    if _refused and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips are not allowed."""
    if _refused:
        terminalreporter.section("skips that tests/allowed_skips.toml does not allow")
        for line in _refused:
            terminalreporter.line(line)
