"""The bound of a run: what it is told, and where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adversary.report.run_folder import RunFolder
from fl_sim.assembly import assemble
from fl_sim.local_grid import run_local
from fl_sim.reattack import reattack

SMALL = {"rounds": 1, "clients": 1, "data__image_size": 8, "local__batch_size": 1}


def test_every_attack_stands_beside_its_bound(quick):
    settings = quick(**SMALL, adversary__bounds="auto")
    run_local(settings)
    folder = RunFolder.open(Path(settings.out))
    leakage, info = folder.leakage(), folder.info()
    assert leakage["bound_psnr"].notna().all()
    assert (leakage["bound_psnr"] > leakage["psnr"]).all()  # two steps of DLG see nothing
    assert (info["bound"]["kind"], info["bound"]["method"]) == ("Bayesian Cramer-Rao", "dense")
    assert len(list(folder.path.glob("images/*/*/*/bound-*.png"))) == len(leakage)


def test_a_bound_that_was_not_asked_for_can_be_had_later(quick):
    settings = quick(**SMALL, adversary__bounds="off", adversary__record=True)
    run_local(settings)
    folder = RunFolder.open(Path(settings.out))
    assert folder.leakage()["bound_psnr"].isna().all()
    assert folder.info()["missing"]["bound_psnr"] == "not asked for"
    reattack(Path(settings.out), {"adversary.bounds": "auto"})
    assert folder.leakage()["bound_psnr"].notna().all()


def test_a_defence_lowers_it_whether_or_not_the_attacker_knows_of_it(quick, tmp_path):
    found = {}
    for name, changes in {
        "none": {},
        "known": {"defence__name": "gaussian-noise"},
        "unknown": {"defence__name": "gaussian-noise", "adversary__defence_known": False},
    }.items():
        settings = quick(**SMALL, adversary__bounds="auto", out=str(tmp_path / name), **changes)
        run_local(settings)
        found[name] = RunFolder.open(Path(settings.out)).leakage()["bound_psnr"].mean()
    assert found["known"] == pytest.approx(found["unknown"])
    assert found["known"] < found["none"] - 10


def test_the_prior_is_learned_from_public_images_alone(quick):
    run = assemble(quick(), 3)
    public = run.splits.public.tensor(range(len(run.splits.public)))
    private = run.splits.private.tensor(range(len(run.splits.private)))
    assert torch.equal(run.prior().images, public)
    torch.testing.assert_close(run.prior().gaussian.mean, public.double().mean(0, keepdim=True))
    assert torch.cdist(public.flatten(1), private.flatten(1)).min() > 0
    assert not set(run.splits.public.patients) & set(run.splits.private.patients)
    assert run.prior() is run.prior()
