"""Frozen parts are not trained, not sent, not observed; the rest is as ever."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adversary import TrainingRecipe
from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.models import ModelError, checkpoints, create
from fl_sim.models.freezing import (
    FROZEN_PARTS,
    freeze,
    load_trainable,
    set_mode,
    trainable_state_dict,
)
from fl_sim.training.local_training import train

RECIPE = TrainingRecipe(lr=0.1, batch_size=2)


def build(name="resnet18", what="none", **options):
    model = create(name, **{"channels": 1, "image_size": 32, "outputs": 3, **options})
    return freeze(model, what)


def trained(model, recipe=RECIPE):
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0])
    train(model, x, y, recipe, list(torch.arange(4).split(2)), device="cpu")
    return model


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("what", FROZEN_PARTS)
@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_exactly_what_is_shared_changes(name, what, batch_norm):
    model = build(name, what)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    named = trainable_state_dict(model).keys()
    after = trained(model, replace(RECIPE, batch_norm=batch_norm)).state_dict()
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    statistics = {k for k in after if "running" in k or "tracked" in k}
    assert changed <= named
    expected = named - statistics if batch_norm == "eval" else named
    assert len(changed) >= 0.9 * len(expected)  # a ReLU's units may all be off
    assert changed & statistics == (named & statistics if batch_norm == "train" else set())


def test_what_each_choice_leaves():
    everything = set(build().state_dict())
    kept = {what: set(trainable_state_dict(build("resnet18", what))) for what in FROZEN_PARTS}
    head = {"head.weight", "head.bias"}
    assert kept["none"] == everything
    assert kept["all-but-last"] == head
    assert kept["middle"] == head | {"body.conv1.weight"}
    assert kept["batch-norm"] == {k for k in everything if ".bn" not in k and "sample.1" not in k}
    assert set(trainable_state_dict(build("convnet", "middle"))) == head | {
        "body.0.weight",
        "body.0.bias",
    }


@pytest.mark.parametrize("options", [{"name": "lenet"}, {"name": "resnet18", "norm": "group"}])
def test_freezing_batch_norm_where_there_is_none_is_refused(options):
    with pytest.raises(ModelError, match="local.freeze = 'batch-norm': the model has no batch"):
        build(what="batch-norm", **options)


def test_frozen_batch_norm_keeps_its_mode():
    model = build(what="batch-norm")
    set_mode(model, training=True)
    assert model.training
    assert not model.body.bn1.training
    set_mode(build(), training=True)
    assert build().body.bn1.training


def test_shared_arrays_complete_the_same_first_model():
    model = trained(build(what="middle", seed=4))
    other = build(what="middle", seed=4)
    load_trainable(other, trainable_state_dict(model))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())
    with pytest.raises(ModelError, match="of another model: body.bn1"):
        load_trainable(build(), trainable_state_dict(model))


@pytest.mark.parametrize("what", ["batch-norm", "all-but-last", "middle"])
def test_a_federation_sends_and_observes_what_is_trained(quick, what):
    settings = quick(
        local__freeze=what,
        model__name="resnet18-sigmoid",
        adversary__record=True,
        data__image_size=8,
        adversary__attack="ing",
        adversary__options="ing.iterations=2",
        rounds=1,
        clients=2,
        checkpoints=True,
    )
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert folder.info()["status"] == "completed"
    assert set(folder.leakage()["status"]) == {"ok"}
    run = build_federation(settings, 2)
    sent = trainable_state_dict(run.model())
    for path in folder.recorded_updates():
        seen = Observation.load(path)
        assert seen.sent.keys() == seen.returned.keys() == sent.keys()
    first, last = (checkpoints.read(checkpoints.of_round(folder.path, n)) for n in (0, 1))
    assert all(torch.equal(v, first[k]) for k, v in run.model().state_dict().items())
    changed = {k for k in first if not torch.equal(first[k], last[k])}
    assert changed
    assert changed <= sent.keys()


def test_a_run_goes_on_from_another_s_checkpoint(quick, tmp_path):
    run_in_process(quick(checkpoints=True, adversary__enabled=False))
    files = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert files == [f"round-{n:03d}.safetensors" for n in range(3)]
    later = quick(
        out=str(tmp_path / "later"), model__weights=str(tmp_path / "run"), checkpoints=True,
        adversary__enabled=False, rounds=1,
    )  # fmt: skip
    run_in_process(later)
    last = checkpoints.read(tmp_path / "run")
    first = checkpoints.read(checkpoints.of_round(tmp_path / "later", 0))
    assert all(torch.equal(v, last[k]) for k, v in first.items())
