import pytest

from fl_sim.federation import build_federation
from fl_sim.run_metadata import privacy
from fl_sim.settings.parse import parse

SMALL = {"data.name": "phantom", "data.image-size": 8, "data.num-images": 24, "rounds": 3}


def federation(**defence):
    changes = {f"defence.{key}": value for key, value in defence.items()}
    return build_federation(parse({**SMALL, **changes}), 2)


@pytest.mark.parametrize("defence", [{"epsilon": 4.0}, {"noise_multiplier": 2.0}])
def test_the_weakest_epsilon_is_told_whether_asked_for_or_not(defence):
    run = federation(name="dp-sgd", **defence)
    spent = [run.account(client, 3) for client in range(2)]
    line = privacy(run)
    assert f"epsilon {max(one.epsilon for one in spent):.3g} at delta" in line
    assert "for one example, of a client that trains in 3 rounds, against everyone" in line


@pytest.mark.parametrize("defence", [{"name": "none"}, {"name": "dp-sgd", "noise_multiplier": 0.0}])
def test_without_an_account_nothing_is_told(defence):
    assert privacy(federation(**defence)) == ""
