import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fl_sim.adversary_setup import make_attacks
from fl_sim.cli import listing
from fl_sim.federation import build_federation
from fl_sim.offline.comparison import check, plan
from fl_sim.settings.declared import DeclaredSetting, declared_settings, defaults
from fl_sim.settings.options import Options
from fl_sim.settings.parse import (
    flatten,
    parse,
)
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings


def mistakes(config) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(config)
    return str(caught.value).splitlines()


def test_nothing_given_is_all_defaults():
    assert parse({}) == Settings()
    assert parse(defaults()) == Settings()


def test_a_value_reaches_its_field():
    settings = parse({"data.image-size": 32, "adversary.attack": "dlg, ing", "rounds": 7})
    assert settings.data.image_size == 32
    assert settings.adversary.attack == "dlg, ing"
    assert settings.rounds == 7


def test_an_integer_is_a_number_but_nothing_else_is_converted():
    lr = parse({"local.lr": 1}).local.lr
    assert lr == 1.0
    assert type(lr) is float
    for key, value in [
        ("rounds", 3.0),
        ("rounds", "3"),
        ("rounds", True),
        ("local.lr", True),
        ("local.lr", "0.1"),
        ("adversary.enabled", 1),
        ("adversary.enabled", "true"),
        ("data.path", 5),
        ("rounds", [3]),
    ]:
        (line,) = mistakes({key: value})
        assert line.startswith(f"{key} = {value!r}: must be ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rounds", 0),
        ("clients", -1),
        ("data.image-size", 7),
        ("data.image-size", 1025),
        ("data.channels", 4),
        ("data.test-fraction", 0.95),
        ("data.alpha", 0.0),
        ("local.lr", 0.0),
        ("local.lr", -0.1),
        ("local.lr", float("nan")),
        ("local.lr", float("inf")),
        ("local.momentum", 1.0),
        ("strategy.fraction", 1.01),
        ("adversary.restarts", -1),
        ("adversary.seconds", -1.0),
    ],
)
def test_out_of_range_names_key_value_and_limits(key, value):
    (line,) = mistakes({key: value})
    rule = next(one for one in declared_settings() if one.key == key)
    assert line == f"{key} = {value!r}: must be {rule.rule.allowed(rule.kind)}"


def test_an_unknown_setting_is_answered_with_the_nearest():
    assert mistakes({"adversary.atack": "dlg"}) == [
        "adversary.atack: unknown setting; did you mean adversary.attack?"
    ]
    assert mistakes({"data.image_size": 32}) == [
        "data.image_size: unknown setting; did you mean data.image-size?"
    ]
    assert mistakes({"zzz": 1}) == ["zzz: unknown setting"]


def test_an_unknown_choice_is_answered_with_all_and_the_nearest():
    (line,) = mistakes({"strategy.name": "fedavgg"})
    assert line.startswith("strategy.name = 'fedavgg': must be one of fedavg, ")
    assert line.endswith("; did you mean fedavg?")
    (line,) = mistakes({"adversary.attack": "dlg, nosuch"})
    assert "must be one or more of " in line
    assert mistakes({"adversary.attack": " , "})


def test_all_mistakes_are_told_at_once_in_their_order():
    lines = mistakes(
        {"rounds": 0, "nonsense": 1, "local.lr": "fast", "data.name": "nosuch", "seed": 1}
    )
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "rounds", "nonsense", "local.lr", "data.name"
    ]  # fmt: skip


def values(one: DeclaredSetting) -> st.SearchStrategy:
    rule = one.rule
    if rule.choices:
        names = st.sampled_from(rule.choices())
        return st.lists(names, min_size=1, max_size=3).map(", ".join) if rule.several else names
    if one.kind is bool:
        return st.booleans()
    if one.kind is int:
        return st.integers(
            None if rule.minimum is None else int(rule.minimum),
            None if rule.maximum is None else int(rule.maximum),
        )
    if one.kind is float:
        return st.floats(
            rule.minimum if rule.above is None else rule.above,
            rule.maximum,
            exclude_min=rule.above is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    if one.kind is Options:  # which hang together with the names of others
        return st.just("")
    return st.text().filter(rule.accepts)


configs = st.fixed_dictionaries({}, optional={one.key: values(one) for one in declared_settings()})


@given(configs)
def test_flatten_is_the_inverse_of_parse(config):
    settings = parse(config)
    flat = flatten(settings)
    assert parse(flat) == settings
    assert flat == {**defaults(), **config}


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().rounds = 5


def test_every_default_is_allowed_and_every_setting_explained():
    for one in declared_settings():
        assert one.rule.help
        assert type(one.default) is one.kind
        assert one.rule.accepts(one.default), one.key


def flat(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_flower_is_told_the_same_defaults(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    told = list(flat(project["tool"]["flwr"]["app"]["config"]))
    assert told == list(defaults().items())
    assert all(type(value) is type(defaults()[key]) for key, value in told)


NEED_A_PATH = ("folder", "kermany", "nih")


def test_every_config_fits_together(root, tmp_path):
    given = tmp_path / "start.png"
    Image.new("L", (64, 64)).save(given)
    files = sorted((root / "configs").glob("*.toml"))
    assert "demo.toml" in [file.name for file in files]
    for file in files:
        config = dict(flat(tomllib.loads(file.read_text())))
        if config.get("data.name") in NEED_A_PATH:
            config["data.name"] = "phantom"
        if "compare.defence" in config:
            starts = [entry.get("adversary.start", "") for entry in config["compare.defence"]]
            if any("image" in start for start in starts):
                config["adversary.start-image"] = str(given)
            check(plan(config))
            continue
        settings = parse(config)
        make_attacks(settings)
        run = build_federation(settings, settings.clients)
        assert len(run.parts) == settings.clients
        assert run.model().head.out_features > 0


def test_the_table_in_the_reference_is_that_of_the_settings():
    page = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"
    assert listing.settings_markdown().strip() in page.read_text(encoding="utf-8")
