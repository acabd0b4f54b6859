"""The file from which a run goes on: all of it, or none."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fl_sim.rounds.early_stopping import Progress
from fl_sim.rounds.server_state import ServerState, ServerStateError, random_states
from strategies.strategy_state import StrategyState

WEIGHT = np.full((64, 64), 0.25, np.float32)


def truncated(content: bytes) -> bytes:
    return content[:-9]


def one_bit_else(content: bytes) -> bytes:
    place = content.index(WEIGHT.tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def another_name(content: bytes) -> bytes:
    return content.replace(b"global/weight", b"global/heiwgt")


@pytest.mark.parametrize("damage", [truncated, one_bit_else, another_name])
def test_a_damaged_snapshot_is_refused(damage, tmp_path):
    path = tmp_path / "state.safetensors"
    ServerState(
        round=2,
        arrays=ArrayRecord({"weight": Array(WEIGHT)}),
        memory=StrategyState({}, {}),
        took_part={"client-00": 2},
        progress=Progress(),
        random=random_states(),
    ).save(path)
    assert np.array_equal(ServerState.load(path).arrays["weight"].numpy(), WEIGHT)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ServerStateError, match="no run can go on from it"):
        ServerState.load(path)
