"""Secure aggregation from the settings to the report; the attack on what the server has."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.common.secure_aggregation.quantization import dequantize, quantize

from adversary.observation.observation import Observation
from adversary.scoring.image_scores import score_images
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.defences import DefenceError, create
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.offline.reattack import reattack
from fl_sim.training import local_training
from strategies import NoUsableReplyError

SECURE = {"defence__name": "secure-aggregation"}
TRYING = {
    "rounds": 1, "clients": 2, "local__batch_size": 1, "adversary__record": True,
    "adversary__attack": "dlg", "adversary__options": "dlg.iterations=40",
}  # fmt: skip


def without_times(table):
    return table.drop(columns="seconds").to_csv(index=False)


def secured(examples, **options):
    """Return the defence as clients with so many images each agree on it."""
    given = {name: str(value) for name, value in options.items()}
    defence = create("secure-aggregation", given)
    return defence.prepare(rounds=1, strategy="fedavg", examples=examples)


@pytest.fixture
def two_runs(quick, tmp_path):
    """Return the folders of the same run without and with secure aggregation."""

    def run(**changes):
        folders = []
        for name in ("none", "secure-aggregation"):
            settings = quick(defence__name=name, out=str(tmp_path / name), **changes)
            run_in_process(settings)
            folders.append(RunFolder.open(tmp_path / name))
        return folders

    return run


def test_a_whole_run(two_runs):
    plain, secure = two_runs(adversary__record=True)
    same = ["round", "clients", "clients_failed"]
    assert plain.rounds()[same].equals(secure.rounds()[same])
    for column in ("loss", "client_loss"):
        assert np.allclose(plain.rounds()[column], secure.rounds()[column], atol=1e-4)
        assert not np.array_equal(plain.rounds()[column], secure.rounds()[column])  # rounding

    leakage, info = secure.leakage(), secure.info()
    for number in (1, 2):
        here = leakage[leakage["round"] == number]
        aggregate = here[here["client"] == "aggregate"]
        masked = here[here["client"] == "client-00-masked"]
        assert len(here) == len(aggregate) + len(masked)
        theirs = plain.leakage().query("round == @number")
        assert list(aggregate["truth"]) == list(theirs["truth"])
        assert list(masked["truth"]) == list(theirs.query("client == 'client-00'")["truth"])
        assert aggregate[["psnr", "ssim", "rdlv", "rank"]].notna().all(axis=None)
    assert set(leakage["status"]) == {"ok"}
    assert (info["status"], info["failures"]) == ("completed", [])
    assert info["threat"]["view"] == "aggregate"
    assert plain.info()["threat"]["view"] == "client"
    assert info["defence"]["max_weight"] == max(info["clients"].values())

    assert set(unmasked(leakage)["client"]) == {"aggregate"}
    assert len(unmasked(plain.leakage())) == len(plain.leakage())
    page = (secure.path / "report.html").read_text()
    assert "The mean of what all clients made of the model" in page
    assert "What one client made of the model" not in page
    assert f"of {len(leakage[leakage['client'] == 'aggregate'])} reconstructions" in page


def test_the_mean_repeats_and_so_does_its_attack(quick, tmp_path):
    folders = []
    for name in ("first", "second"):
        run_in_process(
            quick(
                out=str(tmp_path / name), strategy__fraction=0.7, adversary__record=True, **SECURE
            )
        )
        folders.append(RunFolder.open(tmp_path / name))
    first, second = (f.leakage().query("client == 'aggregate'") for f in folders)
    assert without_times(first) == without_times(second)
    assert without_times(folders[0].rounds()) == without_times(folders[1].rounds())
    before = without_times(folders[0].leakage().sort_values(["round", "client", "image"]))
    reattack(folders[0].path)
    assert without_times(folders[0].leakage().sort_values(["round", "client", "image"])) == before


def test_it_leaks_less_than_none_and_masked_vectors_show_nothing(two_runs):
    plain, secure = two_runs(**TRYING)
    leakage = secure.leakage()
    alone = plain.leakage()["psnr"].mean()
    together = leakage.query("client == 'aggregate'")["psnr"].mean()
    masked = leakage[leakage["client"].str.endswith("-masked")]["psnr"].mean()
    assert alone > together + 10
    assert masked < 12  # what noise gives
    assert together > masked


def test_an_aggregate_of_one_leaks_what_its_update_does(quick):
    """Flower's SecAgg+ refuses a single client, so its rounding is done here."""
    settings = quick(**TRYING)
    run_in_process(settings)
    run = build_federation(settings, 2)
    secure = secured([len(part) for part in run.parts])
    for path in RunFolder.open(Path(settings.out)).recorded_updates():
        alone = Observation.load(path)
        levels = (secure.clipping_range, secure.quantization_range)
        values = [value.double().numpy() for value in alone.returned.values()]
        rounded = map(torch.from_numpy, dequantize(quantize(values, *levels), *levels))
        one = dataclasses.replace(
            alone,
            view="aggregate",
            members={alone.client: alone.num_examples},
            returned=dict(zip(alone.returned, rounded, strict=True)),
        )
        assert torch.equal(run.truth(one).images, run.truth(alone).images)
        found = []
        for observation, defence in ((alone, run.defence), (one, secure)):
            threat = dataclasses.replace(
                run.threat_model(alone), channel=defence.channel(observation)
            )
            [outcome] = run.adversary().run_attacks(observation, threat)
            [scored] = score_images(outcome.reconstruction, run.truth(alone))
            found.append(scored.psnr)
        assert found[0] > 30
        assert found[1] == pytest.approx(found[0], abs=4)


@pytest.mark.parametrize("levels", [2**16, 2**22])
@pytest.mark.parametrize("sizes", [(5, 5), (3, 7, 4)])
def test_the_attacker_knows_the_noise_of_rounding(levels, sizes, quick):
    secure = secured(sizes, quantization_range=levels)
    draw = np.random.default_rng(1)
    own = [0.1 * draw.standard_normal(9999) for _ in sizes]
    np.random.seed(1)  # noqa: NPY002 (Flower rounds by it)
    total = np.zeros(9999)
    for values, size in zip(own, sizes, strict=True):
        share = size / secure.max_weight
        [rounded] = quantize([values * share], secure.clipping_range, levels)
        total += dequantize([rounded], secure.clipping_range, levels)[0]
    mean = total / sum(size / secure.max_weight for size in sizes)
    error = mean - np.average(own, axis=0, weights=sizes)
    seen = Observation(
        round=1, client="aggregate", sent={}, view="aggregate", num_examples=sum(sizes),
        returned={"w": torch.from_numpy(mean), "norm.running_var": torch.ones(3)},
        members={f"client-{i:02d}": size for i, size in enumerate(sizes)},
        recipe=build_federation(quick(), 3).recipe,
    )  # fmt: skip
    known = secure.channel(seen).noise
    assert known.keys() == {"w"}
    assert known["w"] == pytest.approx(error.std(), rel=0.05)
    masked = secure.channel(dataclasses.replace(seen, view="client", num_examples=sizes[0]))
    assert masked.noise["w"] == pytest.approx(16 / 12**0.5 * secure.max_weight / sizes[0])


def test_a_client_that_raises_is_left_out_and_told(quick, monkeypatch):
    real, calls = local_training.train, []

    def breaks(*args, **more):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of film")
        return real(*args, **more)

    monkeypatch.setattr(local_training, "train", breaks)
    settings = quick(**SECURE)
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert list(folder.rounds()["clients_failed"]) == [1, 0]
    [failure] = folder.info()["failures"]
    assert "out of film" in failure["reason"]
    counted = folder.leakage().query("client == 'aggregate'").groupby("round").size()
    assert list(counted) == [4, 6]
    assert folder.info()["status"] == "completed"


def test_training_that_diverges_is_told_by_the_clients(quick):
    settings = quick(local__lr=1e30, local__weight_decay=1.0, local__max_steps=0, **SECURE)
    with pytest.raises(NoUsableReplyError, match="holds NaN or infinite values"):
        run_in_process(settings)
    assert RunFolder.open(Path(settings.out)).info()["status"] == "failed"


def test_a_model_that_does_not_fit_the_clipping_range_is_told(quick):
    settings = quick(defence__options="clipping_range=0.01", **SECURE)
    with pytest.raises(NoUsableReplyError, match=r"clipping_range = 0.01: .* holds values up to"):
        run_in_process(settings)


def test_it_can_be_stopped(quick, monkeypatch):
    def stops(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(local_training, "train", stops)
    settings = quick(**SECURE)
    with pytest.raises(KeyboardInterrupt):
        run_in_process(settings)
    assert RunFolder.open(Path(settings.out)).info()["status"] == "stopped"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clients": 1}, DefenceError, "'secure-aggregation': 1 client trains a round; .* >= 2"),
        ({"strategy__fraction": 0.3}, DefenceError, "1 client trains a round"),
        ({"strategy__name": "fedmedian"}, DefenceError,
         "strategy.name = 'fedmedian': needs each client's update, .* one of fedavg, fedprox"),
        ({"defence__options": "max_weight=1"}, DefenceError, "max_weight = 1: a client has"),
        ({"defence__options": f"quantization_range={2**31}"}, DefenceError, "must be an integer"),
        ({"defence__options": f"quantization_range={2**30}", "clients": 4}, DefenceError,
         "over 4 clients would overflow; must be <= 1073741823"),
        ({"defence__options": "clipping_range=0"}, DefenceError, "must be a number > 0"),
        ({"defence__options": "num_shares=1.5"}, DefenceError, "num_shares = 1.5: must be > 0"),
        ({"defence__options": "max_weight=-1"}, DefenceError, "must be an integer >= 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(changes, error, message, quick):
    settings = quick(**SECURE, **changes)
    with pytest.raises(error, match=message) as caught:
        run_in_process(settings)
    assert "\n" not in str(caught.value)
    assert RunFolder.open(Path(settings.out)).info()["status"] == "failed"


@pytest.mark.slow
def test_a_real_run(tmp_path, quick):
    changes = (
        "rounds=1", "clients=3", "device=cpu", "data.name=phantom", "data.num-images=24",
        "data.image-size=16", "local.batch-size=2",
        "adversary.attack=dlg", "adversary.options=dlg.iterations=2", "adversary.bounds=off",
        "adversary.identify=false", "adversary.workers=1", "defence.name=secure-aggregation",
    )  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    assert main(["run", "--out", str(tmp_path / "ray"), *words]) == 0
    run_in_process(quick(rounds=1, out=str(tmp_path / "local"), **SECURE))
    folders = [RunFolder.open(tmp_path / name) for name in ("ray", "local")]
    assert folders[0].info()["status"] == "completed"
    first, second = (f.leakage().query("client == 'aggregate'") for f in folders)
    assert list(first["truth"]) == list(second["truth"])
    assert np.allclose(first["psnr"], second["psnr"], atol=0.1)
    assert np.allclose(folders[0].rounds()["loss"], folders[1].rounds()["loss"], atol=1e-6)
    assert list(folders[0].rounds()["clients_failed"]) == [0]
