"""Fewer rehearsals than for real updates, so that tests stay fast."""

from __future__ import annotations

import pytest

from adversary.identification import bridge, one_update


@pytest.fixture(autouse=True)
def _few_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_update, "MOST_REHEARSALS", bridge.FEWEST)
