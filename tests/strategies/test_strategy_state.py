"""What adaptive strategies gather survives a new strategy object, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord

from fl_sim.engines.in_process import InProcessGrid
from strategies import RunLog, registry
from strategies.grids.ordered import OrderedGrid
from strategies.strategy_state import StrategyState, load_state_dict, state_dict
from strategies.wrappers.central_dp import CentralDP

GATHERS = {
    "fedavg": set(),
    "fedavgm": {"momentum_vector"},
    "fedadam": {"m_t", "v_t"},
    "fedadagrad": {"m_t", "v_t"},
    "fedyogi": {"m_t", "v_t"},
    "fedmedian": set(),
    "bulyan": set(),
    "central-dp": {"accountant"},
}


def made(name):
    if name != "central-dp":
        return RunLog(registry.create(name, clients=3))
    plain = registry.create("fedavg", clients=3)
    return RunLog(CentralDP(plain, noise_multiplier=1.0, clip=1.0, clients=3, delta=1e-3))


@pytest.mark.parametrize("name", GATHERS)
def test_two_rounds_and_one_more_are_three(foreign, name):
    app = foreign.App(batch_norm=name != "central-dp")
    grid = InProcessGrid(app.client_app(), 3)
    grid = OrderedGrid(grid, list(grid.get_node_ids()))

    def after(strategy, arrays, rounds):
        return strategy.start(grid, ArrayRecord(arrays), num_rounds=rounds).arrays

    np.random.seed(5)  # noqa: NPY002 (Flower's noise)
    whole = after(made(name), app.net().state_dict(), 3)
    np.random.seed(5)  # noqa: NPY002
    first, second = made(name), made(name)
    halfway = after(first, app.net().state_dict(), 2)
    memory = state_dict(first)
    assert {path.partition("/")[0] for path in memory.arrays} | set(memory.facts) == GATHERS[name]
    load_state_dict(second, StrategyState(memory.arrays, json.loads(json.dumps(memory.facts))))
    second.resume(2, first.took_part)
    found = after(second, dict(halfway.items()), 3)
    assert {n: (a.dtype, a.data) for n, a in found.items()} == {
        n: (a.dtype, a.data) for n, a in whole.items()
    }
    if name == "central-dp":
        assert second.strategy.private.accountant.num_releases == 3
