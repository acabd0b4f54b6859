from __future__ import annotations

import json
from pathlib import Path

import pytest

from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder, RunFolderError
from fl_sim import client_app
from fl_sim.engines.in_process import InProcessGrid, run_in_process
from fl_sim.models import checkpoints
from fl_sim.server_app import IncompleteReportError, app
from fl_sim.settings.parse import flatten
from fl_sim.settings.rules import SettingsError
from fl_sim.training import local_training
from strategies import NoUsableReplyError


def rounds_without_times(folder):
    return folder.rounds().drop(columns="seconds").to_csv(index=False)


def leakage_without_times(folder):
    return folder.leakage().drop(columns="seconds").to_csv(index=False)


def test_a_whole_run(quick, capsys):
    settings = quick(adversary__attack="dlg,ing", adversary__record=True,
                     adversary__options="dlg.iterations=2, ing.iterations=2")  # fmt: skip
    report = run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert report == folder.path / "report.html"
    assert report.is_file()

    leakage, rounds, info = folder.leakage(), folder.rounds(), folder.info()
    assert len(leakage) == 2 * 3 * 2 * 2  # rounds, clients, attacks, images a batch
    assert set(leakage["status"]) == {"ok"}
    assert leakage[["psnr", "ssim", "rdlv", "rank", "label_true"]].notna().all(axis=None)
    assert list(rounds["round"]) == [1, 2]
    assert rounds[["loss", "client_loss"]].notna().all(axis=None)
    assert list(rounds["clients_failed"]) == [0, 0]
    assert info["status"] == "completed"
    assert info["settings"] == flatten(settings)
    assert info["data"]["synthetic"] is True
    assert info["data"]["evaluated_on"] == "test"
    assert info["missing"].keys() >= {"epsilon", "delta", "lpips"}
    assert len(folder.recorded_updates()) == 6

    told = [line.removeprefix("fl-sim: ") for line in capsys.readouterr().out.splitlines()]
    assert told[-1] == f"report: {report}"
    assert sum(line.startswith("attack ") for line in told) == 12
    assert sum(line.startswith("round ") for line in told) == 2


def test_the_same_settings_give_the_same_run(quick, tmp_path):
    folders = []
    for name in ("first", "second"):
        run_in_process(quick(out=str(tmp_path / name), strategy__fraction=0.7))
        folders.append(RunFolder.open(tmp_path / name))
    assert leakage_without_times(folders[0]) == leakage_without_times(folders[1])
    assert rounds_without_times(folders[0]) == rounds_without_times(folders[1])
    assert folders[0].leakage().groupby("round")["client"].nunique().eq(2).all()


def test_the_adversary_does_not_change_the_federation(quick, tmp_path):
    tables = []
    for name, enabled in (("on", True), ("off", False)):
        run_in_process(quick(out=str(tmp_path / name), adversary__enabled=enabled))
        tables.append(rounds_without_times(RunFolder.open(tmp_path / name)))
    assert tables[0] == tables[1]
    assert RunFolder.open(tmp_path / "off").leakage().empty


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("fedprox", "lenet"),
        ("fedavgm", "lenet"),
        ("fedmedian", "lenet"),
        ("fedadam", "resnet18"),  # averages in float64, and counts batches in integers
        ("FedAdagrad", "lenet"),
        ("FedYogi", "lenet"),
        ("fedtrimmedavg", "lenet"),
        ("krum", "lenet"),
        ("multikrum", "lenet"),
        ("bulyan", "resnet18"),
        ("QFedAvg", "lenet"),
    ],
)
def test_every_strategy_runs(name, model, quick):
    settings = quick(
        strategy__name=name,
        model__name=model,
        data__image_size=32,
        adversary__enabled=model == "lenet",
    )
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert folder.info()["status"] == "completed"
    assert folder.rounds()["loss"].notna().all()


def test_options_of_a_strategy_change_what_the_server_makes_of_updates(quick, tmp_path):
    models = []
    for eta in (1e-12, 0.1):
        out = tmp_path / str(eta)
        run_in_process(
            quick(out=str(out), rounds=1, strategy__name="fedyogi", strategy__options=f"eta={eta}",
                  adversary__enabled=False, checkpoints=True)
        )  # fmt: skip
        before, after = (checkpoints.read(checkpoints.of_round(out, round)) for round in (0, 1))
        models.append(max(float((after[key] - before[key]).abs().max()) for key in before))
    still, moved = models
    assert still < 1e-6 < 1e-3 < moved


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy__name": "bulyan", "strategy__options": "num_malicious_nodes=1"},
         "strategy.name = 'bulyan': needs 7 clients a round, and 3 train"),
        ({"strategy__name": "qfedavg", "model__name": "resnet18", "data__image_size": 32},
         "strategy.name = 'qfedavg': cannot aggregate whole numbers such as "),
        ({"strategy__name": "qfedavg", "defence__name": "dp-sgd"},
         "strategy.name = 'qfedavg': weighs clients by their losses, which they do not report"),
    ],
)  # fmt: skip
def test_a_strategy_that_could_not_aggregate_is_refused(changes, said, quick):
    with pytest.raises(SettingsError) as error:
        run_in_process(quick(**changes))
    assert str(error.value).startswith(said)


def test_the_proximal_term_reaches_clients(quick, tmp_path, monkeypatch):
    seen = []
    real = local_training.train

    def spy(model, images, labels, recipe, batches, **more):
        seen.append(recipe.proximal_mu)
        return real(model, images, labels, recipe, batches, **more)

    monkeypatch.setattr(local_training, "train", spy)
    off = {"adversary__enabled": False, "rounds": 1}
    run_in_process(quick(strategy__name="fedprox", strategy__proximal_mu=0.7, **off))
    run_in_process(quick(out=str(tmp_path / "avg"), **off))
    assert seen == [0.7] * 3 + [0.0] * 3


def test_a_defence_changes_the_update_and_the_server_knows_its_name(quick, tmp_path):
    updates = []
    for name, options in (("none", ""), ("gaussian-noise", "scale=2")):
        settings = quick(
            out=str(tmp_path / name), rounds=1, adversary__record=True, defence__name=name,
            defence__options=options,
        )  # fmt: skip
        run_in_process(settings)
        folder = RunFolder.open(tmp_path / name)
        assert folder.info()["defence"]["name"] == name
        updates.append(Observation.load(folder.recorded_updates()[0]))
    plain, noisy = updates
    weight = "head.weight"
    change = (plain.returned[weight] - plain.sent[weight]).double()
    noise = (noisy.returned[weight] - plain.returned[weight]).double()
    ratio = noise.square().mean().sqrt() / change.square().mean().sqrt()
    assert 1.5 < float(ratio) < 2.5


def test_known_labels_are_an_oracle_and_told(quick):
    settings = quick(adversary__labels_known=True, rounds=1)
    run_in_process(settings)
    info = RunFolder.open(Path(settings.out)).info()
    assert info["oracles"] == ["labels known"]


def test_a_client_that_raises_does_not_end_the_run(quick, monkeypatch):
    real = local_training.train
    calls = []

    def breaks(*args, **more):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of film")
        return real(*args, **more)

    monkeypatch.setattr(local_training, "train", breaks)
    settings = quick()
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert list(folder.rounds()["clients_failed"]) == [1, 0]
    [failure] = folder.info()["failures"]
    assert failure["client"] in {"client-00", "client-01", "client-02"}
    assert "out of film" in failure["reason"]
    assert folder.info()["status"] == "completed"


def test_when_all_clients_raise_the_run_fails_and_says_why(quick, monkeypatch):
    def breaks(*args, **more):
        raise RuntimeError("out of film")

    monkeypatch.setattr(local_training, "train", breaks)
    settings = quick()
    with pytest.raises(NoUsableReplyError, match="round 1: none of 3 clients"):
        run_in_process(settings)
    info = RunFolder.open(Path(settings.out)).info()
    assert info["status"] == "failed"
    assert "out of film" in info["reason"]


def test_training_that_diverges_is_told_and_ends_the_run(quick):
    settings = quick(local__lr=1e30, local__weight_decay=1.0, local__max_steps=0)
    with pytest.raises(NoUsableReplyError, match="NaN or infinite"):
        run_in_process(settings)


def test_mistakes_end_the_run_before_the_first_round(quick):
    settings = quick(local__batch_size=99)
    with pytest.raises(SettingsError, match="local.batch-size = 99"):
        run_in_process(settings)
    info = RunFolder.open(Path(settings.out)).info()
    assert (info["status"], "local.batch-size" in info["reason"]) == ("failed", True)


def test_an_earlier_run_is_left_alone(quick):
    settings = quick(rounds=1)
    run_in_process(settings)
    before = {p: p.read_bytes() for p in Path(settings.out).rglob("*") if p.is_file()}
    with pytest.raises(RunFolderError, match="already holds a run"):
        run_in_process(settings)
    assert {p: p.read_bytes() for p in Path(settings.out).rglob("*") if p.is_file()} == before


def test_a_full_disk_does_not_stop_training_but_fails_the_run(quick, monkeypatch):
    def full(self, **values):
        raise RunFolderError("rounds.csv cannot be written: No space left on device")

    monkeypatch.setattr(RunFolder, "add_round", full)
    settings = quick()
    with pytest.raises(IncompleteReportError, match="No space left"):
        run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert len(folder.leakage()) == 2 * 3 * 2
    assert folder.info()["status"] == "failed"


def test_the_flower_app_refuses_wrong_settings_all_at_once(quick):
    grid = InProcessGrid(client_app.app, 2)
    [context] = [grid._contexts[node] for node in list(grid.get_node_ids())[:1]]
    context.run_config = {"locl.lr": 1.0, "rounds": 0}
    with pytest.raises(SettingsError) as error:
        app(grid, context)
    assert str(error.value).splitlines() == [
        "locl.lr: unknown setting; did you mean local.lr?",
        "rounds = 0: must be an integer >= 1",
    ]


def test_the_flower_app_refuses_what_nothing_reads_before_there_is_a_folder(tmp_path):
    out = tmp_path / "run"
    grid = InProcessGrid(client_app.app, 2)
    [context] = [grid._contexts[node] for node in list(grid.get_node_ids())[:1]]
    context.run_config = {"data.path": str(tmp_path), "out": str(out)}
    with pytest.raises(SettingsError, match=r"data\.path = .*: nothing reads it without"):
        app(grid, context)
    assert not out.exists()


def test_run_json_is_plain_json(quick):
    settings = quick(rounds=1, adversary__enabled=False)
    run_in_process(settings)
    assert json.loads((Path(settings.out) / "run.json").read_text())["seed"] == 1
