"""The guard's decisions, what it writes, and what the server is told."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from torch import nn

from adversary import Observation, Prior, ThreatModel, TrainingRecipe
from adversary.common.results import AttackResult, Reconstruction
from adversary.common.seeding import generator
from adversary.observation.mechanisms import RelativeNoise
from adversary.report import guard_page
from adversary.scoring.image_scores import score_images
from adversary.storage import csv_table
from strategies.mods import GuardPolicy, LeakageGuard, PrivateData
from strategies.mods.leakage_guard.assessment import Assessment, Assessor
from strategies.mods.leakage_guard.mod import WITHHELD

NODE = 1000
SECRET = "patient-0815"


@pytest.mark.parametrize(
    ("limits", "figures", "decision", "reason"),
    [
        ({"max_psnr": 20.0}, {"psnr": 20.0}, "send", "within the limits"),
        ({"max_psnr": 20.0}, {"psnr": 20.1}, "refuse", "psnr 20.1 > 20"),
        ({"max_psnr": 20.0}, {"psnr": float("inf")}, "refuse", "psnr inf > 20"),
        ({"max_rdlv": 0.1, "max_named": 0.5}, {"rdlv": 0.2, "named": 0.9}, "refuse",
         "rdlv 0.2 > 0.1, named 0.9 > 0.5"),
        ({"max_rdlv": 0.1, "action": "blur"}, {"rdlv": 0.2}, "blur", "rdlv 0.2 > 0.1"),
        ({"max_named": 0.5}, {"psnr": 90.0}, "refuse", "no named"),
        ({"max_named": 0.5, "on_failure": "send"}, {"psnr": 90.0}, "send", "no named"),
        ({"max_psnr": 20.0}, {"psnr": 9.0, "faults": ("cut off",)}, "refuse", "cut off"),
        ({"max_psnr": 20.0, "on_failure": "send"}, {"psnr": 9.0, "faults": ("cut off",)}, "send",
         "cut off"),
        ({"max_psnr": 20.0, "on_failure": "send"}, {"psnr": 21.0, "faults": ("cut off",)},
         "refuse", "psnr 21 > 20"),
        ({"max_expected_psnr": 30.0}, {"expected_psnr": 31.0}, "refuse", "expected_psnr 31 > 30"),
    ],
)  # fmt: skip
def test_what_follows_from_figures(limits, figures, decision, reason):
    assert GuardPolicy(**limits).judged(Assessment(**figures)) == (decision, reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a guard without a limit lets all pass; set one of max_psnr, max_expected_psnr"),
        ({"max_psnr": 1.0, "action": "warn"}, "action = 'warn': must be one of refuse, blur"),
        ({"max_psnr": 1.0, "on_failure": "go"}, "on_failure = 'go': must be one of refuse, send"),
        ({"max_psnr": 1.0, "noise": (1.0, 0.1)}, r"noise = \(1.0, 0.1\): must be numbers > 0"),
        ({"max_psnr": 1.0, "noise": ()}, r"noise = \(\): must be numbers > 0 that rise"),
        ({"max_psnr": 1.0, "seconds": 0.0}, "seconds = 0.0: must be a number > 0"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GuardPolicy(**options)


class Kept(FedAvg):
    def __init__(self):
        super().__init__(fraction_evaluate=1.0)
        self.replies = {}

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        self.replies |= {r.metadata.src_node_id - NODE: copy.deepcopy(r) for r in replies}
        return super().aggregate_train(server_round, replies)


class Told:
    """An assessor that says 40 dB of one image's update until it is noisy enough."""

    def __init__(self, enough=0.0, images=2):
        self.enough, self.images, self.seen = enough, images, []

    def assess(self, observation, threat, data):
        self.seen.append((observation, threat))
        if observation.num_examples != self.images:
            return Assessment(psnr=5.0, seconds=1.0)
        level = max(threat.channel.noise.values(), default=0.0)
        return Assessment(psnr=5.0 if 0 < self.enough <= level else 40.0, seconds=1.0)


class Broken:
    def assess(self, observation, threat, data):
        raise KeyError(f"{SECRET} is not readable")


@pytest.fixture
def guarded(foreign, tmp_path):
    """Run a foreign app of three clients of 2, 3 and 4 images, with a guard at each."""

    def run(assessor, *, folder: Path | None = None, **policy):
        draw = torch.Generator().manual_seed(9)
        held_out = Prior(torch.rand(4, 1, 8, 8, generator=draw), torch.tensor([0, 1, 0, 1]))

        def data(message, context):
            images, labels = foreign.own_images(int(context.node_config["partition-id"]))
            return PrivateData(images=images, labels=labels, held_out=held_out)

        guard = LeakageGuard(
            foreign.Net(), data, TrainingRecipe(lr=foreign.lr, batch_size=8),
            GuardPolicy(max_psnr=20.0, **policy), folder or tmp_path / "guard", seed=3,
        )  # fmt: skip
        guard.assessor = assessor
        app, strategy = foreign.App(mods=(guard,)), Kept()
        app.run(strategy, rounds=1)
        return app, strategy.replies

    return run


def rows(tmp_path, client):
    table = csv_table.read(tmp_path / "guard" / f"node-{client}" / "guard.csv", guard_page.TABLE)
    return table.to_dict("records")


def arrays(reply):
    return reply.content["arrays"].to_torch_state_dict()


def test_one_is_refused_and_the_others_leave_bit_for_bit(guarded, tmp_path):
    told = Told()
    app, replies = guarded(told)
    assert replies[0].error.reason == WITHHELD
    for client in (1, 2):
        for name, value in arrays(replies[client]).items():
            assert torch.equal(value, app.replied[1, client][name])
        assert set(replies[client].content) == {"arrays", "metrics"}
    assert [row["decision"] for row in rows(tmp_path, 0)] == ["refuse"]
    assert rows(tmp_path, 0)[0]["reason"] == "psnr 40 > 20"
    assert [row["decision"] for row in rows(tmp_path, 1)] == ["send"]
    page = (tmp_path / "guard" / "node-0" / "guard.html").read_text()
    assert "1 updates: 0 sent as they were, 0 blurred, 1 withheld" in page
    assert "psnr 40 &gt; 20" in page
    observation, threat = told.seen[0]
    assert (observation.round, observation.num_examples) == (1, 2)
    assert observation.recipe.lr == 0.1
    assert not threat.oracles()


def test_blur_is_the_least_noise_that_is_enough_and_is_told(guarded, tmp_path):
    app, replies = guarded(Told(enough=2e-3), action="blur", noise=(0.01, 0.5, 30.0))
    noise = replies[0].content["leakage-guard"]["noise-scale"]
    assert noise in (0.5, 30.0)
    draw = generator(3, "LeakageGuard", 1, NODE)
    expected = RelativeNoise(scale=noise).release(
        app.loaded[1, 0], app.replied[1, 0], generator=draw
    )
    left = arrays(replies[0])
    assert all(torch.equal(left[name], value) for name, value in expected.items())
    assert not torch.equal(left["conv.weight"], app.replied[1, 0]["conv.weight"])
    [row] = rows(tmp_path, 0)
    assert (row["decision"], row["noise"], row["psnr"], row["psnr_after"]) == (
        "blur", noise, 40.0, 5.0,
    )  # fmt: skip
    assert row["seconds"] == (3.0 if noise == 0.5 else 4.0)
    assert "leakage-guard" not in replies[1].content


def test_what_no_noise_hides_is_refused(guarded, tmp_path):
    _, replies = guarded(Told(enough=1e9), action="blur", noise=(0.1, 0.2))
    assert replies[0].error.reason == WITHHELD
    [row] = rows(tmp_path, 0)
    assert row["decision"] == "refuse"
    assert row["reason"].endswith("no noise up to 0.2 is enough")


@pytest.mark.parametrize("on_failure", ["refuse", "send"])
def test_a_guard_that_fails_does_as_the_hospital_said_and_tells_nothing(
    on_failure, guarded, tmp_path
):
    app, replies = guarded(Broken(), on_failure=on_failure)
    for client, reply in replies.items():
        if on_failure == "refuse":
            assert reply.error.reason == WITHHELD
        else:
            sent = arrays(reply)
            assert all(torch.equal(sent[n], v) for n, v in app.replied[1, client].items())
        assert SECRET not in repr(reply)
        [row] = rows(tmp_path, client)
        assert row["decision"] == on_failure
        assert SECRET in row["reason"]  # on the hospital's own disk


@pytest.mark.parametrize("on_failure", ["refuse", "send"])
def test_a_failure_once_a_limit_is_passed_sends_nothing(on_failure, guarded):
    class BreaksLater(Told):
        def assess(self, observation, threat, data):
            if threat.channel.noise:
                raise MemoryError("no memory")
            return super().assess(observation, threat, data)

    _, replies = guarded(BreaksLater(), on_failure=on_failure, action="blur")
    assert replies[0].error.reason == WITHHELD
    assert replies[1].has_content()


@pytest.mark.parametrize("on_failure", ["refuse", "send"])
def test_a_disk_that_cannot_be_written_is_a_failure(on_failure, guarded, tmp_path):
    (tmp_path / "file").write_text("no folder")
    _, replies = guarded(Told(), folder=tmp_path / "file", on_failure=on_failure)
    assert replies[0].error.reason == WITHHELD
    assert replies[1].has_error() == (on_failure == "refuse")


def test_of_several_images_each_figure_is_the_worst_that_there_is():
    """The nearest picture is of an image with nothing on it, the most telling one of another."""
    draw = torch.Generator().manual_seed(2)
    faint = 0.5 + 0.02 * torch.rand(1, 1, 16, 16, generator=draw)
    sharp = torch.rand(1, 1, 16, 16, generator=draw)
    held_out = Prior(torch.rand(60, 1, 16, 16, generator=draw), torch.arange(60) % 2)
    labels = torch.tensor([0, 1])
    data = PrivateData(images=torch.cat([sharp, faint]), labels=labels, held_out=held_out)
    found = Reconstruction(
        images=torch.cat([0.7 * sharp + 0.15, torch.full_like(faint, 0.51)]), labels=labels,
        score=0.0, seconds=1.0, evaluations=1, expected_psnr=(30.0, 9.0),
    )  # fmt: skip
    telling, nearest = score_images(found, data.truth, prior=held_out)
    assert nearest.psnr > telling.psnr + 10
    assert telling.rdlv > nearest.rdlv + 0.3
    assessor = Assessor(model=nn.Identity(), seconds=1.0, identification=False)
    figures = assessor._scored(
        AttackResult(attack="standard", seconds=1.0, reconstruction=found), data
    )
    assert (figures["psnr"], figures["rdlv"]) == pytest.approx((nearest.psnr, telling.rdlv))
    assert figures["expected_psnr"] == 30.0


@pytest.mark.parametrize("seconds", [600.0, 1e-9])
def test_the_real_attack_finds_a_single_image(seconds):
    draw = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(128, 2))
    sent = {name: value.clone() for name, value in net.state_dict().items()}
    image, label = torch.rand(1, 1, 8, 8, generator=draw), torch.tensor([1])
    torch.nn.functional.cross_entropy(net(image), label).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    held_out = Prior(torch.rand(60, 1, 8, 8, generator=draw), torch.arange(60) % 2)
    data = PrivateData(images=image, labels=label, held_out=held_out)
    observation = Observation(
        round=1, client="own", sent=sent, returned=dict(net.state_dict()), num_examples=1,
        recipe=TrainingRecipe(lr=0.1, batch_size=8),
    )  # fmt: skip
    found = Assessor(model=net, seconds=seconds, identification=True).assess(
        observation, ThreatModel(), data
    )
    if seconds < 1:
        assert any("cut off" in fault for fault in found.faults)
        assert not found.complete
    else:
        assert found.faults == ()
        assert found.named == 1.0
        assert found.psnr > 40
        assert found.null_psnr < found.psnr
    few = PrivateData(
        images=image, labels=label, held_out=Prior(held_out.images[:9], label[:1].expand(9))
    )
    for wanted in (True, False):
        found = Assessor(model=net, seconds=600.0, identification=wanted).assess(
            observation, ThreatModel(), few
        )
        assert found.named is None
        assert any("identification" in fault for fault in found.faults) == wanted
