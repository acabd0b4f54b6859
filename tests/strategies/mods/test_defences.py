"""Mods in a Flower app that knows nothing of this project: what leaves, and what does not."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from adversary.common.seeding import generator
from adversary.observation.mechanisms import is_buffer
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences import LocalUpdate, create
from fl_sim.models import create as create_model
from strategies import mods

MODS = {
    "gaussian-noise": (mods.GaussianNoiseMod, {"scale": 0.3}),
    "percentile-noise": (mods.PercentileNoiseMod, {"scale": 0.5, "percentile": 80.0}),
    "percentile-privacy": (mods.PercentilePrivacyMod, {"percentile": 40.0, "gamma": 0.005}),
    "top-k": (mods.TopKMod, {"share": 0.2, "scope": "global"}),
    "quantise": (mods.QuantiseMod, {"bits": 3, "rounding": "stochastic"}),
}
NODE = 1000  # of the first client of an InProcessGrid


class Kept(FedAvg):
    """FedAvg that keeps what it was sent, round by round."""

    def __init__(self, **options):
        super().__init__(fraction_evaluate=0.0, **options)
        self.rounds = []

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        self.rounds.append({r.metadata.src_node_id: copy.deepcopy(r) for r in replies})
        return super().aggregate_train(server_round, replies)


def answers(app, strategy=None, **run):
    strategy = strategy or Kept()
    app.run(strategy, **run)
    return strategy.rounds


def arrays(reply):
    return dict(reply.content["arrays"].to_torch_state_dict())


@pytest.mark.parametrize("name", MODS)
def test_a_mod_sends_what_the_defence_of_its_name_sends(name, foreign):
    kind, options = MODS[name]
    seeded = {"seed": 5} if name in ("gaussian-noise", "percentile-noise", "quantise") else {}
    app = foreign.App(mods=(kind(**options, **seeded),))
    rounds = answers(app, rounds=2)
    defence = create(name, {key: str(value) for key, value in options.items()})
    for number, replies in enumerate(rounds, 1):
        for node, reply in replies.items():
            turn = (number, node - NODE)
            update = LocalUpdate(
                sent=app.loaded[turn], returned=app.replied[turn], model=None,
                recipe=None, images=None, labels=None,
            )  # fmt: skip
            left = defence.apply(update, generator=generator(5, kind.__name__, number, node))
            found = arrays(reply)
            assert found.keys() == left.keys()
            for key, value in left.items():
                assert torch.equal(found[key], value), key
                assert found[key].dtype == value.dtype
            assert set(reply.content["metrics"]) == {"loss", "num-examples"}


def test_without_a_seed_nobody_can_repeat_the_noise(foreign):
    app = foreign.App(mods=(mods.GaussianNoiseMod(1.0),))
    one, other = (arrays(answers(app, rounds=1)[0][NODE])["conv.weight"] for _ in range(2))
    assert not torch.equal(one, other)


def test_a_seed_needs_to_know_the_round(foreign, monkeypatch):
    monkeypatch.setattr("strategies.mods.updates.ROUND", "no-such-key")
    [replies] = answers(foreign.App(mods=(mods.GaussianNoiseMod(1.0, seed=1),)), rounds=1)
    assert all("seed = 1: needs" in reply.error.reason for reply in replies.values())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: {**c, "more": c["arrays"]}, "carries 2 array records, not 1"),
        (
            lambda c: {**c, "arrays": ArrayRecord({**c["arrays"].to_torch_state_dict(),
                                                   "new": torch.zeros(1)})},
            "answers with new, which it was not sent",
        ),
        (
            lambda c: {**c, "arrays": ArrayRecord({"fc.bias": torch.zeros(3)})},
            "answers with fc.bias of shape (3,), sent (2,)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_protected_stays_at_home(spoil, reason, foreign):
    app = foreign.App(
        mods=(mods.TopKMod(0.1),), spoil={1: lambda content: RecordDict(spoil(dict(content)))}
    )
    [replies] = answers(app, rounds=1)
    assert [r.has_error() for _, r in sorted(replies.items())] == [False, True, False]
    assert reason in replies[NODE + 1].error.reason


def test_an_error_of_the_app_passes(foreign):
    def fail(content):
        raise RuntimeError("no disk")

    [replies] = answers(foreign.App(mods=(mods.TopKMod(0.1),), spoil={0: fail}), rounds=1)
    assert "no disk" in replies[NODE].error.reason


def test_local_dp_has_the_noise_of_its_epsilon_and_holds_everything_else_back(foreign):
    clip, epsilon, delta, rounds = 0.05, 3.0, 1e-3, 2
    mod = mods.CalibratedLocalDpMod(clip, epsilon, delta, rounds)
    pytest.importorskip("dp_accounting")
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    spent = PLDAccountant()
    spent.compose(SelfComposedDpEvent(GaussianDpEvent(mod.mechanism.noise_multiplier / 2), rounds))
    assert spent.get_epsilon(delta) == pytest.approx(epsilon, rel=0.01)

    app = foreign.App(mods=(mod,))
    seen = answers(app, rounds=3)
    assert [r.has_error() for r in seen[2].values()] == [True] * 3
    assert all("budget of 2 rounds is spent" in r.error.reason for r in seen[2].values())
    noise = []
    for number, replies in enumerate(seen[:2], 1):
        for node, reply in replies.items():
            sent, trained = (of[number, node - NODE] for of in (app.loaded, app.replied))
            assert set(reply.content["metrics"]) == {"num-examples"}
            deltas = {n: v.double() - sent[n].double() for n, v in trained.items()}
            weights = {n: d for n, d in deltas.items() if not is_buffer(n, sent[n])}
            norm = math.sqrt(sum(float(d.square().sum()) for d in weights.values()))
            for name, value in arrays(reply).items():
                if name not in weights:
                    assert torch.equal(value, sent[name])
                    continue
                bounded = weights[name] * min(1.0, clip / norm)
                noise.append((value.double() - sent[name].double() - bounded).flatten())
    spread = float(torch.cat(noise).std())
    assert spread == pytest.approx(mod.mechanism.noise_multiplier * clip, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon = 0.0: must be a number > 0"),
        ({"delta": 1.0}, "delta = 1.0: must be > 0 and < 1"),
        ({"rounds": 0}, "rounds = 0: must be an integer >= 1"),
        ({"clipping_norm": -1.0}, "clip = -1.0: must be a number > 0"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(options, message):
    given = {"clipping_norm": 1.0, "epsilon": 1.0, "delta": 0.01, "rounds": 1, **options}
    with pytest.raises(ValueError, match=message):
        mods.CalibratedLocalDpMod(**given)


def test_a_part_of_the_model_stays_with_its_client(foreign):
    app = foreign.App(mods=(mods.PartialSharingMod("fc.*"),))
    rounds = answers(app, rounds=3)
    for number, replies in enumerate(rounds, 1):
        for node, reply in replies.items():
            client = node - NODE
            sent = arrays(rounds[0][node])["fc.weight"]  # never changed by anybody
            left, trained = arrays(reply), app.replied[number, client]
            torch.testing.assert_close(left["fc.weight"], sent)  # but for rounding of the mean
            assert torch.equal(left["conv.weight"], trained["conv.weight"])
            if number > 1:
                before = app.replied[number - 1, client]
                assert torch.equal(app.loaded[number, client]["fc.weight"], before["fc.weight"])
                assert not torch.equal(before["fc.weight"], sent)


def test_a_part_that_is_not_there_is_named(foreign):
    [replies] = answers(foreign.App(mods=(mods.PartialSharingMod("nosuch.*"),)), rounds=1)
    assert "local = 'nosuch.*': no array of the model is so named" in replies[NODE].error.reason


def test_soteria_prunes_the_columns_of_the_defence(foreign):
    made = foreign.Net().eval()
    mod = mods.SoteriaMod(
        foreign.Net, lambda message, context: foreign.own_images(0)[0], layer="fc",
        percentage=30.0, seed=2,
    )  # fmt: skip
    app = foreign.App(mods=(mod,))
    [replies] = answers(app, rounds=1)
    left, sent, trained = arrays(replies[NODE]), app.loaded[1, 0], app.replied[1, 0]
    pruned = (left["fc.weight"] == sent["fc.weight"]).all(0)
    assert int(pruned.sum()) == math.ceil(0.3 * made.fc.in_features)
    assert torch.equal(left["fc.weight"][:, ~pruned], trained["fc.weight"][:, ~pruned])
    assert all(torch.equal(left[n], trained[n]) for n in left if n != "fc.weight")
    made.load_state_dict(sent)

    def encode(x):
        return torch.sigmoid(made.norm(made.conv(x))).flatten(1)

    exact = torch.zeros(made.fc.in_features)
    for image in foreign.own_images(0)[0]:
        rows = torch.func.jacrev(lambda x: encode(x[None])[0])(image).flatten(1)
        exact += (encode(image[None])[0].abs() / rows.norm(dim=1)).detach()
    most = exact.topk(int(pruned.sum())).values.sum()
    assert float(exact[pruned].sum()) > 0.9 * float(most)  # the criterion is known to 9 %


def test_soteria_names_the_layers_that_it_could_take(foreign):
    mod = mods.SoteriaMod(foreign.Net, lambda m, c: torch.zeros(1, 1, 8, 8), layer="head")
    [replies] = answers(foreign.App(mods=(mod,)), rounds=1)
    assert "layer = 'head': must be a linear layer, of fc" in replies[NODE].error.reason


def test_the_same_classifier_is_pruned_alike_by_mod_and_defence():
    """One mathematics: the columns are those of the simulation's defence."""
    net = create_model("convnet", channels=1, image_size=12, outputs=3, activation="gelu", seed=0)
    from adversary.observation.mechanisms.representation_pruning import sensitivity_scores

    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    sent = {n: v.clone() for n, v in net.state_dict().items()}
    returned = {n: v + 0.1 if v.is_floating_point() else v for n, v in sent.items()}
    update = LocalUpdate(
        sent=sent, returned=returned, model=net, recipe=TrainingRecipe(lr=0.1, batch_size=2),
        images=images, labels=torch.zeros(2),
    )  # fmt: skip
    left = create("soteria").apply(update, generator=generator(1, "x"))
    scores = sensitivity_scores(net.eval().encode, images, generator(1, "x"))
    pruned = (left["head.weight"] == sent["head.weight"]).all(0)
    assert float(scores[pruned].min()) >= float(scores[~pruned].max())
