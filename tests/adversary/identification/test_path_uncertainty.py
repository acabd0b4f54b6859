"""What is not known of the path of local training counts as noise, as much as it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from adversary.common.seeding import generator
from adversary.identification import Gallery, figures, identify
from adversary.identification import path_uncertainty as module
from adversary.identification.evidence import features, read
from adversary.identification.path_uncertainty import (
    CAUTION,
    EXAMPLES,
    LEAST,
    PathUncertainty,
    path_uncertainty,
)
from adversary.identification.regression import DIRECTIONS
from adversary.identification.rehearsal import in_training_mode, rehearse
from adversary.identification.views import Views
from adversary.observation.channel import Channel
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior
from tests.adversary.identification.test_one_update import draw, network, trained

REHEARSALS = 8


def told(recipe, seed=0, members=16):
    """A client's update with its rehearsals, and how far images may be off in it."""
    model, public = network(), draw(120, 100 + seed)
    images, labels = draw(members, seed)
    observation, _ = trained(model, images, labels, recipe, seed)
    mode, draws = in_training_mode(model, recipe), generator(seed, "rehearsals")
    pool = public[0], F.one_hot(public[1], 2).float()
    made = []
    for _ in range(REHEARSALS):
        chosen = torch.randperm(len(pool[0]), generator=draws)[:members]
        examples = pool[0][chosen], pool[1][chosen]
        steps = observation.steps
        made.append(rehearse(mode, observation, examples, steps=steps, generator=draws))
    update = read(mode, observation, Channel(), made, most=10**9, generator=draws)
    error = path_uncertainty(
        *(mode, update, observation, Channel(), made, (pool[0][:EXAMPLES], pool[1][:EXAMPLES])),
        seed=seed,
        views=Views(),
        kept=DIRECTIONS,
    )
    rows = features(
        *(mode, update, images, F.one_hot(labels, 2).float(), observation, Channel()),
        generator=draws,
    )
    return mode, observation, made, update, error, rows


def test_the_path_of_one_step_is_known():
    *_, error, rows = told(TrainingRecipe(lr=0.1, batch_size=16))
    assert float(error.variance.max()) < 1e-9 * float(rows.sum(1).square().mean())
    assert float(error.shared.abs().max()) < 1e-4 * float(rows.sum(1).abs().max())
    assert torch.equal(error.misfit(rows.sum(1)[None]), torch.full_like(error.variance, LEAST))


def test_it_is_one_level_for_each_array():
    *_, update, error, _ = told(TrainingRecipe(lr=0.1, batch_size=4))
    assert error.variance.shape == update.data.shape
    assert error.shared.shape == (REHEARSALS, len(update.data))
    for level in error.variance.split(list(update.sizes.values())):
        assert float(level.min()) == float(level.max()) > 0


@pytest.mark.parametrize(
    "recipe",
    [
        TrainingRecipe(lr=0.05, batch_size=4),
        TrainingRecipe(lr=0.2, batch_size=4),
        TrainingRecipe(lr=0.05, batch_size=4, momentum=0.9),
        TrainingRecipe(lr=0.05, batch_size=4, local_epochs=3),
    ],
    ids=str,
)
def test_it_covers_what_the_true_members_leave_and_is_not_far_above(recipe):
    """Over several clients, with the shared directions taken out as the regression does.

    It is seen in one rehearsal, so within a factor.
    """
    expected, left = 0.0, 0.0
    for seed in range(6):
        *_, update, error, rows = told(recipe, seed)
        rest = update.data - rows.sum((0, 1))
        level = error.variance.rsqrt()
        basis = torch.linalg.qr((error.shared * level).T.double()).Q
        white = (rest * level).double()
        white = white - basis @ (basis.T @ white)
        left += float(white.square().sum())
        expected += len(white) - basis.shape[1]
    assert 0.02 < left / expected < 4


def test_factors_of_equations_are_factors_of_errors():
    draws = torch.Generator().manual_seed(0)
    error = PathUncertainty(torch.rand(5, generator=draws), torch.randn(2, 5, generator=draws))
    found = error.scaled(torch.arange(1.0, 6))
    torch.testing.assert_close(found.variance, error.variance * torch.arange(1.0, 6) ** 2)
    torch.testing.assert_close(found.shared, error.shared * torch.arange(1.0, 6))


def test_candidates_are_named_where_most_members_are_none():
    """The parts of members who are no candidates are noise, and are noticed."""
    recipe = TrainingRecipe(lr=0.05, batch_size=4)
    inside, outside = [], []
    for seed in range(4):
        images, labels = draw(16, seed)
        observation, _ = trained(network(), images, labels, recipe, seed)
        others = draw(20, 50 + seed)
        asked = torch.cat([images[:4], others[0]]), torch.cat([labels[:4], others[1]])
        gallery = Gallery(images=asked[0], labels=asked[1], names=tuple(map(str, range(24))))
        public = Prior(*draw(120, 200 + seed))
        found = identify(observation, ThreatModel(), network(), gallery, public, seed=seed)
        inside.append(found.scores.values[:4])
        outside.append(found.scores.values[4:])
    assert figures.auc(torch.cat(inside), torch.cat(outside)) > 0.9
    assert abs(float(torch.cat(outside).mean())) < 0.4


@pytest.mark.parametrize("rehearsals", [2, 4, 12])
def test_the_client_s_path_lies_off_the_mean_of_rehearsals_as_another_rehearsal_would(
    rehearsals, monkeypatch
):
    """Of parts that differ by 0.3 from path to path, 0.2 of it alike for all of 30 images."""
    draws = torch.Generator().manual_seed(rehearsals)
    paths = [
        0.2 * torch.randn(1, 3000, generator=draws) + 0.3 * torch.randn(30, 3000, generator=draws)
        for _ in range(rehearsals)
    ]
    many = torch.zeros(module.MAX_REHEARSED + 1), torch.zeros(0)  # nothing is left out of one
    made = [SimpleNamespace(parts=one, examples=many) for one in paths]
    update = SimpleNamespace(
        parts=torch.stack(paths).mean(0), images=5.0, epochs=1.0, sizes={"w": 3000}, layers=[],
        bridge=SimpleNamespace(freedom=rehearsals - 1),
    )  # fmt: skip
    monkeypatch.setattr(module, "along", lambda _update, _model, _seen, own: made[own])
    monkeypatch.setattr(module, "features", lambda _model, of, *_, **__: of.parts[:, None])
    examples = torch.zeros(30, 1), torch.zeros(30, 1)
    found = path_uncertainty(
        *(None, update, None, None, made, examples), seed=0, views=Views(), kept=DIRECTIONS
    )
    apart = 1 + 1 / rehearsals  # the variance of one, and that of a mean
    alone = CAUTION * 5 * apart * 0.3**2
    assert float(found.variance.mean()) == pytest.approx(alone, rel=0.03)
    alike = 5**2 * apart * (0.2**2 + 0.3**2 / 30)
    assert float(found.shared.square().sum(0).mean()) == pytest.approx(alike, rel=0.1)
