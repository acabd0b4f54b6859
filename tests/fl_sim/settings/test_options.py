"""Parameters of defences and attacks: tables, the command line, and the text that Flower takes."""

from __future__ import annotations

import pickle
import tomllib

import pytest

from fl_sim.adversary_setup import make_attacks
from fl_sim.cli.app import main
from fl_sim.cli.options import parse_changes
from fl_sim.defences import create
from fl_sim.settings.layers import expand, overlay
from fl_sim.settings.options import Options, parse_options
from fl_sim.settings.parse import canonical, flatten, flatten_toml, parse
from fl_sim.settings.rules import SettingsError

TABLES = """
[defence]
name = "dp-sgd"
noise-multiplier = 2
clip = 0.5

[adversary]
attack = "ing, gauss-newton"

[adversary.ing]
tv = 0.001
iterations = 7

[adversary.gauss-newton]
start = "encodings"
"""

STRINGS = """
[defence]
name = "dp-sgd"
options = "noise_multiplier=2, clip=0.5"

[adversary]
attack = "ing, gauss-newton"
options = "ing.tv=1e-3, ing.iterations=7, gauss-newton.start=encodings"
"""


def read(text):
    return parse(dict(flatten_toml(tomllib.loads(text))))


def one_mistake(config) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(config)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("text", [TABLES, STRINGS], ids=["tables", "strings"])
def test_tables_and_the_older_strings_are_the_same_settings(text):
    settings = read(text)
    assert settings == read(TABLES)
    assert hash(settings) == hash(read(TABLES))
    assert settings.defence.options == {"noise_multiplier": 2.0, "clip": 0.5}
    assert type(settings.defence.options["noise_multiplier"]) is float
    assert settings.adversary.options["ing.tv"] == 0.001
    ing, gauss_newton = make_attacks(settings)
    assert (ing.tv, ing.iterations) == (0.001, 7)
    assert gauss_newton.start == "encodings"
    assert create("dp-sgd", settings.defence.options).clip == 0.5


def test_flower_is_given_text_which_is_read_as_the_same():
    flat = flatten(read(TABLES))
    assert flat["defence.options"] == "noise_multiplier=2, clip=0.5"
    assert flat["adversary.options"] == (
        "ing.tv=0.001, ing.iterations=7, gauss-newton.start=encodings"
    )
    assert all(type(value) in (bool, int, float, str) for value in flat.values())
    assert parse(flat) == read(TABLES)
    assert pickle.loads(pickle.dumps(read(TABLES))) == read(TABLES)


def test_the_command_line_sets_each_parameter():
    changes = parse_changes(
        ["defence.name=gaussian-noise", "defence.scale=0.1", "adversary.attack=ing",
         "adversary.ing.tv=1e-3"]
    )  # fmt: skip
    settings = parse(changes)
    assert settings.defence.options == {"scale": 0.1}
    assert settings.adversary.options == {"ing.tv": 0.001}


def test_options_of_a_strategy_are_settings_beside_its_name():
    text = '[strategy]\nname = "FedAdam"\neta = 1\nbeta-1 = 0.8\n'
    settings = read(text)
    assert (settings.strategy.name, settings.strategy.options) == (
        "fedadam", {"eta": 1.0, "beta_1": 0.8}
    )  # fmt: skip
    assert flatten(settings)["strategy.options"] == "eta=1, beta_1=0.8"
    assert parse(flatten(settings)) == settings
    below = dict(flatten_toml(tomllib.loads(text)))
    assert parse(overlay(below, {"strategy.name": "fedadam"})) == settings
    assert parse(overlay(below, {"strategy.name": "krum"})).strategy.options == {}
    assert parse(overlay(below, {"strategy.options": "tau=1"})).strategy.options == {"tau": 1.0}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"strategy.name": "FedAdam", "strategy.etta": 1},
         "strategy.etta: unknown setting, and no option of fedadam, which takes eta, beta_1, "
         "beta_2, tau; did you mean strategy.eta?"),
        ({"strategy.eta": 1}, "strategy.eta: unknown setting, and no option of fedavg, which takes "
                              "none; it is of fedadam, fedadagrad, fedyogi"),
        ({"strategy.fraction-fit": 1}, "strategy.fraction-fit: unknown setting, and no option of "
                                       "fedavg, which takes none; did you mean strategy.fraction?"),
        ({"strategy.name": "krum", "strategy.num-malicious-nodes": 0.5},
         "strategy.num_malicious_nodes = 0.5: must be an integer"),
    ],
)  # fmt: skip
def test_options_that_a_strategy_does_not_take(config, said):
    assert one_mistake(config) == said


@pytest.mark.parametrize(
    ("changes", "defence", "adversary"),
    [
        ({}, {"noise_multiplier": 2, "clip": 0.5}, 3),
        ({"defence.clip": 0.1}, {"noise_multiplier": 2, "clip": 0.1}, 3),
        ({"defence.options": "clip=0.1"}, {"clip": 0.1}, 3),
        ({"defence.options": ""}, {}, 3),
        ({"defence.name": "none"}, {}, 3),
        ({"defence.name": "dp-sgd"}, {"noise_multiplier": 2, "clip": 0.5}, 3),
        ({"defence.name": "top-k", "defence.share": 0.1}, {"share": 0.1}, 3),
        ({"adversary.attack": "ing"}, {"noise_multiplier": 2, "clip": 0.5}, 2),
        ({"adversary.attack": "dlg"}, {"noise_multiplier": 2, "clip": 0.5}, 0),
        ({"adversary.options": "ing.tv=1"}, {"noise_multiplier": 2, "clip": 0.5}, 1),
    ],
)
@pytest.mark.parametrize("text", [TABLES, STRINGS], ids=["tables", "strings"])
def test_parameters_go_with_the_defence_and_the_attack_they_are_of(
    text, changes, defence, adversary
):
    below = dict(flatten_toml(tomllib.loads(text)))
    settings = parse(overlay(below, changes))
    assert settings.defence.options == defence
    assert len(settings.adversary.options) == adversary


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"defence.scale": 1}, "defence.scale: unknown option; none takes no options"),
        (
            {"defence.name": "gaussian-noise", "defence.skale": 1},
            "defence.skale: unknown option; gaussian-noise takes scale; did you mean scale?",
        ),
        (
            {"defence.nam": "none"},
            "defence.nam: unknown option; none takes no options; did you mean name?",
        ),
        (
            {"defence.name": "gaussian-noise", "defence.scale": "much"},
            "defence.scale = 'much': must be a number",
        ),
        (
            {"defence.name": "gaussian-noise", "defence.scale": True},
            "defence.scale = True: must be a number",
        ),
        (
            {"adversary.attack": "dlg", "adversary.dgl.iterations": 1},
            "adversary.dgl.iterations: must be adversary.ATTACK.OPTION, with ATTACK one of "
            "adversary.attack, dlg; did you mean dlg?",
        ),
        ({"adversary.attack": "dlg", "adversary.dlg.iterations": 1.5},
         "adversary.dlg.iterations = 1.5: must be an integer"),
        ({"adversary.atack": "dlg"},
         "adversary.atack: unknown setting; did you mean adversary.attack?"),
        (
            {"defence.name": "augmentation", "defence.policy": "shift,rotation"},
            "defence.policy = 'shift,rotation': must hold no comma",
        ),
        (
            {"defence.name": "gaussian-noise", "defence.scale": 1, "defence.options": "scale=2"},
            "defence.scale = 1: defence.options has 2; give it once",
        ),
        ({"defence.name": "non", "defence.options": "scale=2"}, None),
        ({"defence.options": 5}, "defence.options = 5: must be text"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_with_the_parameter_s_own_name(config, said):
    found = one_mistake(config)
    assert found == said or (said is None and found.startswith("defence.name = 'non': must be "))


def test_limits_of_a_parameter_are_those_of_its_defence(tmp_path, capsys):
    command = ["run", "--out", str(tmp_path / "run"), "--set", "defence.name=gaussian-noise"]
    assert main([*command, "--set", "defence.scale=-1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fl-sim: error: defence.scale = -1.0: must be a number >= 0"


def test_text_is_split_and_checked():
    assert parse_options("ing.tv=0.01, dlg.iterations = 100", "adversary.options") == {
        "ing.tv": "0.01",
        "dlg.iterations": "100",
    }
    assert parse_options("", "defence.options") == {}
    for text in ("scale", "scale=", "=1", "scale=1, x"):
        with pytest.raises(SettingsError, match=r"^defence\.options = ") as caught:
            parse_options(text, "defence.options")
        assert len(str(caught.value).splitlines()) == 1


def test_the_same_value_given_twice_is_given():
    config = {"defence.scale": 1.0, "defence.options": "scale=1"}
    assert expand(config) == {"defence.scale": 1.0}


def test_options_do_not_change():
    options = Options({"a": 1, "b": True})
    assert str(options) == "a=1, b=true"
    assert {options: 1}[Options({"b": True, "a": 1})] == 1
    with pytest.raises(TypeError):
        options["a"] = 2


def test_settings_of_an_older_run_are_read_in_today_s_form():
    older = {"defence.name": "gaussian-noise", "defence.options": "scale=1.0"}
    assert canonical(older)["defence.options"] == "scale=1"
    assert canonical({"nonsense": 1}) == {"nonsense": 1}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("learning-rate", "local.lr"), ("lr", "local.lr"), ("local.learning-rate", "local.lr"),
        ("epochs", "local.epochs"), ("local-epochs", "local.epochs"),
        ("batch_size", "local.batch-size"), ("num-clients", "clients"),
        ("num-server-rounds", "rounds"), ("epsilon", "defence.epsilon"), ("dataset", "data.name"),
        ("random_seed", "seed"), ("optimizer", "local.optimizer"),
        ("fraction-evaluate", "strategy.evaluate-fraction"), ("attack", "adversary.attack"),
        ("defense.name", "defence.name"), ("image_size", "data.image-size"),
    ],
)  # fmt: skip
def test_usual_words_lead_to_the_setting(word, meant):
    assert one_mistake({word: 1}) == f"{word}: unknown setting; did you mean {meant}?"
