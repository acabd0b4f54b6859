from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest
import torch

import adversary.identification
from adversary.identification import Identification, Identifier
from adversary.identification.null import Scores
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel

SCORES = torch.tensor([3.0, 0.0], dtype=torch.float64)
FOUND = Identification(
    names=("a", "b"), scores=Scores(values=SCORES, expected=SCORES, null=SCORES,
    null_expected=SCORES), p_values=SCORES, posteriors=SCORES, rate=0.5, seconds=1.0,
)  # fmt: skip


def update(client="client-00"):
    recipe = TrainingRecipe(lr=0.1, batch_size=1)
    return Observation(
        round=1, client=client, sent={}, returned={}, num_examples=1, recipe=recipe
    )  # fmt: skip


def nobody(observation):
    return None


def identifier(seconds=None):
    return Identifier(torch.nn.Linear(1, 1), candidates=nobody, public=None, seconds=seconds)


def test_what_goes_wrong_is_one_line():
    found = identifier().run(update(), ThreatModel())
    assert found.found is None
    assert "shares no array with the model that was sent" in found.failure


def test_a_masked_update_is_not_asked():
    found = identifier().run(update("client-00-masked"), ThreatModel())
    assert "uniformly distributed, whoever was in it" in found.failure


def test_it_stops_at_its_limit_and_shows_how_far_it_is(monkeypatch):
    told = []

    def slow(*_, progress, **__):
        progress(0.5)
        return FOUND

    monkeypatch.setattr("adversary.identification.identifier.identify", slow)
    done = identifier().run(update(), ThreatModel(), progress=lambda *one: told.append(one))
    assert (done.found, told) == (FOUND, [("identification", 0.5)])
    stopped = identifier(seconds=1e-9).run(update(), ThreatModel())
    assert stopped.failure == "stopped at its limit of 1e-09 s"


def test_an_interrupt_goes_through(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("adversary.identification.identifier.identify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        identifier().run(update(), ThreatModel())


def test_it_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(identifier())).seed == 0


def test_the_attacker_cannot_name_who_was_a_member():
    scoring = ("adversary.common.truth", "adversary.scoring", "adversary.identification.figures")
    for file in Path(adversary.identification.__file__).parent.glob("*.py"):
        if file.name in ("figures.py", "ceilings.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(scoring), file.name
