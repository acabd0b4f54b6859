"""Where figures go besides the run's folder."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from adversary.report.ledger import Ledger, by_round
from adversary.storage.run_folder import RunFolder
from fl_sim import loggers
from fl_sim.cli.app import main
from fl_sim.engines.in_process import run_in_process
from fl_sim.loggers.base import Logger
from fl_sim.server_app import IncompleteReportError
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError


class Heard(Logger):
    """Keeps what it is told."""

    def __init__(self, *given):
        self.figures, self.ended = [], []

    def scalars(self, figures, round):
        self.figures += [(name, round, value) for name, value in figures.items()]

    def end(self, status):
        self.ended.append(status)


@pytest.fixture
def heard(monkeypatch):
    one = Heard()
    monkeypatch.setattr(loggers, "_class", lambda name: lambda settings, folder: one)
    return one


def test_every_round_and_attack_is_told(heard, quick):
    settings = quick(loggers="tensorboard", adversary__attack="dlg,ing",
                     adversary__options="dlg.iterations=2, ing.iterations=2")  # fmt: skip
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    losses = [value for name, _, value in heard.figures if name == "training/loss"]
    assert losses == folder.rounds()["loss"].tolist()
    leakage = folder.leakage()
    for (round, attack), rows in leakage.groupby(["round", "attack"]):
        mean = [v for n, r, v in heard.figures if (n, r) == (f"leakage/{attack}/psnr_mean", round)]
        assert mean == [pytest.approx(rows["psnr"].mean())]
    worst = {r: v for n, r, v in heard.figures if n == "leakage/dlg/psnr_worst"}
    assert list(worst) == [1, 2]  # in the order of rounds
    assert heard.ended == ["completed"]


def test_nothing_is_logged_unless_asked_for(quick, monkeypatch):
    monkeypatch.setattr(loggers, "_class", lambda name: pytest.fail("not asked for"))
    run_in_process(quick(rounds=1, adversary__enabled=False))


def test_a_logger_that_fails_stops_no_training_and_is_told(heard, quick, monkeypatch):
    def broken(figures, round):
        raise OSError("no space left")

    monkeypatch.setattr(heard, "scalars", broken)
    settings = quick(loggers="mlflow")
    with pytest.raises(IncompleteReportError, match="Heard: .*no space left"):
        run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert len(folder.rounds()) == 2
    assert len(folder.leakage()) == 12


def test_the_figures_of_a_run_without_truth_are_left_out(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.add_failure(1, "client-00", "dlg", "out of memory")
    assert by_round(folder.leakage()) == {}
    listener = Heard()
    Ledger(folder, listeners=[listener]).close("stopped")
    assert (listener.figures, listener.ended) == ([], ["stopped"])


def test_a_package_that_is_missing_is_named(quick, monkeypatch, capsys, tmp_path):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name="tensorboard")

    monkeypatch.setattr(loggers, "import_module", missing)
    with pytest.raises(loggers.LoggerError, match="^loggers = 'tensorboard': tensorboard is not"):
        loggers.makers(quick(loggers="tensorboard"))
    assert main(["run", "--out", str(tmp_path / "run"), "--set", "loggers=tensorboard"]) == 2
    assert "pip install 'fl-sim[loggers]'" in capsys.readouterr().err


def test_no_such_logger():
    with pytest.raises(SettingsError, match="^loggers = 'wandb': must be empty, or one or more of"):
        parse({"loggers": "wandb"})


needs = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
    )
    for name in ("tensorboard", "mlflow")
}


@needs["tensorboard"]
def test_tensorboard_reads_what_was_written(quick):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = quick(loggers="tensorboard")
    run_in_process(settings)
    events = EventAccumulator(str(Path(settings.out) / "loggers" / "tensorboard"))
    events.Reload()
    folder = RunFolder.open(Path(settings.out))
    read = [(one.step, one.value) for one in events.Scalars("training/loss")]
    expected = folder.rounds()[["round", "loss"]].itertuples(index=False, name=None)
    assert read == [(round, pytest.approx(loss)) for round, loss in expected]
    assert "leakage/dlg/psnr_mean" in events.Tags()["scalars"]


@needs["mlflow"]
def test_mlflow_has_the_run(quick, monkeypatch, tmp_path):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    settings = quick(loggers="mlflow")
    run_in_process(dataclasses.replace(settings))
    client = MlflowClient()
    experiment = client.get_experiment_by_name("fl-sim")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["rounds"] == "2"
    assert "leakage/dlg/psnr_worst" in run.data.metrics
