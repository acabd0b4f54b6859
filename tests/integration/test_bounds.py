"""The bound of a run: what it is told, and where it is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.offline.reattack import reattack

SMALL = {"rounds": 1, "clients": 1, "data__image_size": 8, "local__batch_size": 1}


def test_every_attack_stands_beside_its_bound(quick):
    settings = quick(**SMALL, adversary__bounds="auto", adversary__record=True)
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    leakage, info = folder.leakage(), folder.info()
    run, [update] = build_federation(settings, 1), folder.recorded_updates()
    seen = Observation.load(update)
    expected = run.bound()(seen, run.truth(seen)).psnr
    assert leakage["bound_psnr"].tolist() == pytest.approx(expected.tolist())
    assert (leakage["bound_psnr"] > leakage["psnr"]).all()  # two steps of DLG see nothing
    assert (leakage["bound_psnr"] > leakage["prior_psnr"]).all()  # and the update much
    assert (info["bound"]["kind"], info["bound"]["method"]) == ("Bayesian Cramer-Rao", "dense")
    assert len(list(folder.path.glob("images/*/*/*/bound-*.png"))) == len(leakage)


def test_a_bound_that_was_not_asked_for_can_be_had_later(quick):
    settings = quick(**SMALL, adversary__bounds="off", adversary__record=True)
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert folder.leakage()["bound_psnr"].isna().all()
    assert folder.info()["missing"]["bound_psnr"] == "not asked for"
    reattack(Path(settings.out), {"adversary.bounds": "auto"})
    assert folder.leakage()["bound_psnr"].notna().all()


def test_a_defence_lowers_it_though_the_attacker_is_not_told_of_it(quick, tmp_path):
    found = {}
    for name in ("none", "gaussian-noise"):
        settings = quick(
            **SMALL,
            adversary__bounds="auto",
            adversary__defence_known=False,
            defence__name=name,
            out=str(tmp_path / name),
        )
        run_in_process(settings)
        found[name] = RunFolder.open(Path(settings.out)).leakage()["bound_psnr"].mean()
    assert found["gaussian-noise"] < found["none"] - 10


@pytest.mark.parametrize("view", ["client", "aggregate"])
def test_under_mixup_it_is_that_of_the_blends_that_the_network_saw(quick, tmp_path, view):
    """Scoring draws them again: others than the client's would explain nothing of its update."""
    settings = quick(
        rounds=1, clients=2, data__image_size=8, local__batch_size=2, local__max_steps=2,
        model__name="lenet", defence__name="mixup", adversary__bounds="auto",
        adversary__record=True,
    )  # fmt: skip
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert folder.leakage()["bound_psnr"].notna().all()
    about = folder.info()["bound"]
    assert about["subject"] == "blends"
    assert set(about["scopes"]) <= {"all images unknown", "others known"}
    run = build_federation(settings, 2)
    files = sorted((folder.path / "updates" / "round-001").glob("*.safetensors"))
    seen = [Observation.load(file) for file in files]
    one = seen[0]
    if view == "aggregate":
        members = {s.client: s.num_examples for s in seen}
        share = {n: m / sum(members.values()) for n, m in members.items()}
        mean = {
            n: sum(share[s.client] * s.returned[n].double() for s in seen).to(v.dtype)
            for n, v in one.returned.items()
        }
        one = dataclasses.replace(
            one, view="aggregate", client="all", members=members, returned=mean,
            num_examples=sum(members.values()),
        )  # fmt: skip
    truth = run.truth(one)
    for blend, pair in zip(truth.blends.images, truth.blends.sources, strict=True):
        low, high = truth.images[pair].min(0).values, truth.images[pair].max(0).values
        assert bool(((blend >= low - 1e-6) & (blend <= high + 1e-6)).all())
    found = run.bound()(one, truth)  # raises where they do not explain the update
    assert found.psnr.shape == (len(truth.images),)


def test_the_prior_is_learned_from_public_images_alone(quick):
    run = build_federation(quick(), 3)
    public = run.splits.public.tensor(range(len(run.splits.public)))
    private = run.splits.private.tensor(range(len(run.splits.private)))
    assert torch.equal(run.prior().images, public)
    torch.testing.assert_close(run.prior().gaussian.mean, public.double().mean(0, keepdim=True))
    assert torch.cdist(public.flatten(1), private.flatten(1)).min() > 0
    assert not set(run.splits.public.patients) & set(run.splits.private.patients)
    assert run.prior() is run.prior()
