"""A federation that trains: its pace, its figures, many clients, and what the attacker knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from flwr.serverapp.strategy import FedAvg

from adversary import ThreatModel
from adversary.observation.observation import Observation
from adversary.problem.problem import build_problem
from adversary.problem.update_models import unrolled
from adversary.storage.run_folder import RunFolder
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.models import checkpoints
from fl_sim.models.freezing import trainable_state_dict
from fl_sim.settings.rules import SettingsError
from fl_sim.training import local_training
from fl_sim.training.evaluation import evaluate

SILENT = {"adversary__enabled": False}


def run(settings) -> RunFolder:
    run_in_process(settings)
    return RunFolder.open(Path(settings.out))


def watched_rates(monkeypatch):
    """Return a list that gets the learning rate that each client trains with."""
    rates = []
    real = local_training.train

    def spy(model, images, labels, recipe, *args, **more):
        rates.append(recipe.lr)
        return real(model, images, labels, recipe, *args, **more)

    monkeypatch.setattr(local_training, "train", spy)
    return rates


def test_the_schedule_reaches_clients_the_table_and_the_attacker(quick, monkeypatch):
    rates = watched_rates(monkeypatch)
    folder = run(
        quick(
            rounds=2, clients=2, local__lr=0.2, local__schedule="step", local__decay=0.5,
            local__decay_every=1, adversary__record=True, strategy__name="fedprox",
        )
    )  # fmt: skip
    assert rates == pytest.approx([0.2, 0.2, 0.1, 0.1])
    assert folder.rounds()["lr"].tolist() == pytest.approx([0.2, 0.1])
    seen = [Observation.load(path) for path in folder.recorded_updates()]
    assert [one.recipe.lr for one in seen] == rates
    assert {one.recipe.proximal_mu for one in seen} == {0.1}
    assert set(folder.leakage()["status"]) == {"ok"}


def test_a_plateau_reduces_the_rate_that_clients_train_with(quick, monkeypatch, capsys):
    rates = watched_rates(monkeypatch)
    folder = run(
        quick(
            **SILENT, rounds=4, clients=1, local__lr=0.2, data__validation_fraction=0.3,
            strategy__monitor="loss", strategy__min_delta=5.0, strategy__plateau_patience=1,
            strategy__plateau_factor=0.5,
        )
    )  # fmt: skip
    assert rates == pytest.approx([0.2, 0.2, 0.1, 0.05])
    assert folder.rounds()["lr"].tolist() == pytest.approx(rates)
    assert "round 2 · plateau: learning rate 0.1 from here on" in capsys.readouterr().out


@pytest.mark.parametrize(("share", "clients"), [(0.0, 0), (0.5, 2), (1.0, 3)])
def test_a_share_of_the_clients_evaluates(quick, share, clients):
    folder = run(quick(**SILENT, rounds=2, clients=3, strategy__evaluate_fraction=share))
    assert len(folder.clients()) == 2 * clients
    assert folder.info()["status"] == "completed"


def test_training_stops_early_by_validation_auc(quick, capsys):
    folder = run(
        quick(
            **SILENT, rounds=9, clients=2, data__num_images=60, data__validation_fraction=0.3,
            strategy__stop_patience=2, strategy__min_delta=1.0,
        )
    )  # fmt: skip
    assert len(folder.rounds()) == 3
    info = folder.info()
    assert info["status"] == "completed"
    best = folder.rounds()["client_auc"][0]
    assert info["best"] == {"round": 1, "auc": pytest.approx(best), "stopped_after": 3}
    assert "stopped early: auc was best in round 1, 2 rounds ago" in capsys.readouterr().out


def test_clients_are_evaluated_on_patients_that_nobody_trains_on(quick):
    settings = quick(**SILENT, rounds=1, data__num_images=60, data__validation_fraction=0.3,
                     checkpoints=True)  # fmt: skip
    folder = run(settings)
    parts = build_federation(settings, 3)
    everyone = [set(p.patients) for p in (*parts.parts, *parts.validation)]
    assert sum(map(len, everyone)) == len(set.union(*everyone))
    model = parts.model()
    checkpoints.load_into(model, checkpoints.read(folder.checkpoint(1)))
    rows = folder.clients()
    aucs = []
    for row, part in zip(rows.itertuples(), parts.validation, strict=True):
        found = evaluate(
            model, part.tensor(range(len(part))), part.labels, "cross-entropy", device="cpu"
        )
        assert (row.images, row.auc_left_out) == (len(part), found.left_out)
        assert (row.loss, row.auc) == pytest.approx((found.loss, found.auc), rel=1e-6)
        aucs.append(found.auc * len(part))
    total = sum(len(part) for part in parts.validation)
    assert folder.rounds()["client_auc"][0] == pytest.approx(sum(aucs) / total)
    assert folder.info()["validation"]["client-01"] == len(parts.validation[1])


def test_a_client_without_validation_patients_trains_and_is_not_counted(quick):
    settings = quick(**SILENT, rounds=1, clients=6, data__validation_fraction=0.2,
                     data__partition="quantity", local__batch_size=1)  # fmt: skip
    folder = run(settings)
    sizes = [len(part) for part in build_federation(settings, 6).validation]
    assert 0 in sizes
    rows = folder.clients()
    assert rows["images"].tolist() == sizes
    assert rows["loss"].isna().tolist() == [not size for size in sizes]
    known = rows.dropna(subset="loss")
    mean = (known["loss"] * known["images"]).sum() / known["images"].sum()
    assert folder.rounds()["client_loss"][0] == pytest.approx(mean)


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_36_clients_are_averaged_by_their_images(quick, monkeypatch, fraction):
    replies = []
    aggregate = FedAvg.aggregate_train

    def spy(self, server_round, messages):
        for message in messages:
            arrays = message.content["arrays"].to_torch_state_dict()
            images = message.content["metrics"]["num-examples"]
            replies.append((images, {n: v.clone().double() for n, v in arrays.items()}))
        return aggregate(self, server_round, messages)

    monkeypatch.setattr(FedAvg, "aggregate_train", spy)
    settings = quick(
        **SILENT, rounds=1, clients=36, data__num_images=150, data__partition="quantity",
        data__alpha=2.0, local__batch_size=1, local__max_steps=0, strategy__fraction=fraction,
        checkpoints=True,
    )  # fmt: skip
    parts = build_federation(settings, 36).parts
    patients = [set(part.patients) for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients))
    folder = run(settings)
    assert folder.rounds()["clients"][0] == len(replies) == 36 * fraction
    images = [number for number, _ in replies]
    assert len(set(images)) > 3
    if fraction == 1:
        assert images == [len(part) for part in parts]
    for name, value in checkpoints.read(folder.checkpoint(1)).items():
        expected = sum(number / sum(images) * arrays[name] for number, arrays in replies)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)


RECIPES = {
    "schedule": {"local__schedule": "cosine", "local__schedule_over": "steps"},
    "momentum and decay": {"local__momentum": 0.9, "local__weight_decay": 0.01},
    "adam": {"local__optimizer": "adam", "local__lr": 0.001},
    "drop-last": {"local__drop_last": True, "local__batch_size": 3},
    "class weights": {"model__class_weights": "1, 5"},
    "one sigmoid": {"model__class_weights": "balanced", "model__loss": "bce"},
}


@pytest.mark.parametrize("case", RECIPES)
def test_the_attacker_unrolls_the_clients_own_training(quick, case):
    """In float64, on the client's own batches in their order of use."""
    usual = {"clients": 4, "local__max_steps": 3, "local__lr": 0.1, "model__name": "lenet"}
    settings = quick(**{**usual, "data__image_size": 32, **RECIPES[case]})
    parts = build_federation(settings, 4)
    model = parts.model().double()
    inputs, labels = parts.training_inputs(1, 0).double(), parts.parts[0].labels
    batches = parts.batches(1, 0)
    sent = {name: value.clone() for name, value in trainable_state_dict(model).items()}
    recipe = dataclasses.replace(parts.recipe, proximal_mu=0.3)
    local_training.train(model, inputs, labels, recipe, batches, device="cpu")
    seen = Observation(
        round=1, client="client-00", sent=sent, returned=trainable_state_dict(model),
        num_examples=len(labels), recipe=recipe,
    )  # fmt: skip
    used = parts.used_indices(1, 0)
    problem = build_problem(seen, ThreatModel(), parts.model(), image_shape=(1, 32, 32),
                   dtype=torch.float64)  # fmt: skip
    assert problem.shape[0] == len(used)
    found = unrolled(problem, problem.parameters, inputs[used], problem.targets(labels[used]))
    for name, value in problem.gradient.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8)


def test_adam_clients_are_attacked_and_the_report_says_so(quick):
    folder = run(quick(rounds=1, clients=2, local__optimizer="adam", adversary__bounds="auto"))
    notes = folder.leakage()["note"]
    assert notes.str.contains("Adam clients: ").all()
    assert folder.info()["recipe"]["optimizer"] == "adam"
    assert "no bound for clients that use Adam" in folder.info()["missing"]["bound_psnr"]
    assert "Adam clients: " in (folder.path / "report.html").read_text()


def test_balanced_weights_are_those_of_what_clients_train_on(quick):
    settings = quick(model__class_weights="balanced", data__num_images=60)
    parts = build_federation(settings, 3)
    counts = torch.cat([part.labels for part in parts.parts]).bincount()
    expected = counts.sum() / (2 * counts)
    assert parts.recipe.class_weights == pytest.approx(expected.tolist())
    assert quick().model.class_weights == ""
    assert build_federation(quick(), 3).recipe.class_weights == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"local__optimizer": "adam", "local__momentum": 0.9},
            "local.momentum = 0.9: is of SGD; must be 0 with local.optimizer = 'adam'",
        ),
        (
            {"local__optimizer": "adam", "defence__name": "dp-sgd"},
            "local.optimizer = 'adam': dp-sgd takes steps of SGD; must be sgd",
        ),
        (
            {"model__class_weights": "1"},
            "model.class-weights = '1': must be balanced, empty, or 2 comma-separated numbers > 0 "
            "(clear, opacity)",
        ),
        (
            {"model__class_weights": "balanced", "defence__name": "local-dp"},
            "model.class-weights = 'balanced': with defence.name = 'local-dp' clients tell no "
            "counts of labels",
        ),
        ({"model__class_weights": "1, -2"}, "model.class-weights = '1, -2': must be balanced"),
        ({"model__class_weights": "even"}, "model.class-weights = 'even': must be balanced"),
        (
            {"strategy__stop_patience": 3},
            "strategy.stop-patience = 3: needs data.validation-fraction > 0, X-rays that no "
            "client trains on",
        ),
        (
            {"strategy__plateau_patience": 2, "defence__name": "dp-sgd",
             "data__validation_fraction": 0.2},
            "strategy.plateau-patience = 2: with defence.name = 'dp-sgd' clients report no figures",
        ),
        (
            {"strategy__stop_patience": 2, "strategy__evaluate_fraction": 0,
             "data__validation_fraction": 0.3},
            "strategy.stop-patience = 2: needs strategy.evaluate-fraction > 0",
        ),
        (
            {"data__validation_fraction": 0.01},
            "data.validation-fraction = 0.01: leaves no client a patient to validate on",
        ),
        (
            {"data__validation_fraction": 0.2, "strategy__stop_patience": 1},
            "strategy.monitor = 'auc': no client has X-rays with and without a label",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_one_line(quick, changes, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (several kinds, for the user all)
        build_federation(quick(**changes), 3)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_a_wrong_choice_names_the_nearest(quick):
    with pytest.raises(SettingsError, match="local.optimizer = 'adams': must be one of sgd, adam"):
        quick(local__optimizer="adams")
