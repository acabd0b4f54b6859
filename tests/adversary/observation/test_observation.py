from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adversary import Observation, ObservationError, TrainingRecipe


def observation(**changes) -> Observation:
    values = {
        "round": 2,
        "client": "client-03",
        "sent": {"w": torch.randn(3, 2), "n": torch.tensor(4)},
        "returned": {"w": torch.randn(3, 2), "n": torch.tensor(5)},
        "num_examples": 7,
        "recipe": TrainingRecipe(lr=0.1, batch_size=2, momentum=0.9, class_weights=(0.5, 3.0)),
    }
    return Observation(**(values | changes))


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = observation()
    saved.save(tmp_path / "round-002" / "client-03.safetensors")
    loaded = Observation.load(tmp_path / "round-002" / "client-03.safetensors")
    assert loaded.recipe == saved.recipe
    assert (loaded.round, loaded.client, loaded.num_examples) == (2, "client-03", 7)
    for side in ("sent", "returned"):
        for name, value in getattr(saved, side).items():
            other = getattr(loaded, side)[name]
            assert other.dtype == value.dtype
            assert torch.equal(other, value)


def test_what_was_sent_to_several_clients_is_kept_once(tmp_path):
    first, second = observation(client="a"), observation(client="b")
    second = dataclasses.replace(second, sent=first.sent)
    sent = first.save(tmp_path / "a.safetensors")
    assert second.save(tmp_path / "b.safetensors", sent=sent) == sent
    assert second.save(tmp_path / "b.safetensors") == sent  # named by what is in it
    assert list((tmp_path / "sent").iterdir()) == [sent]
    for one in (first, second):
        loaded = Observation.load(tmp_path / f"{one.client}.safetensors")
        assert torch.equal(loaded.sent["w"], first.sent["w"])
        assert torch.equal(loaded.returned["w"], one.returned["w"])
    other = observation(client="c")
    other.save(tmp_path / "c.safetensors", sent=tmp_path / "sent" / "gone.safetensors")
    loaded = Observation.load(tmp_path / "c.safetensors")
    assert torch.equal(loaded.sent["w"], other.sent["w"])


@pytest.mark.parametrize("damage", ["changed", "missing", "elsewhere"])
def test_what_was_sent_must_be_what_was_written(tmp_path, damage):
    path = tmp_path / "client-03.safetensors"
    sent = observation().save(path)
    if damage == "changed":
        sent.write_bytes(sent.read_bytes()[:-1] + b"\x40")
    elif damage == "missing":
        sent.unlink()
    else:
        beside = path.with_suffix(".json")
        about = json.loads(beside.read_text())
        beside.write_text(json.dumps(about | {"sent_sha256": f"../{sent.stem}"}))
    with pytest.raises(ObservationError, match=r"client-03\.safetensors: not a recorded update"):
        Observation.load(path)


@pytest.mark.parametrize("damage", ["truncated", "changed", "not json", "no recipe", "missing"])
def test_a_damaged_record_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "client-03.safetensors"
    observation().save(path)
    beside = path.with_suffix(".json")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x40")
    elif damage == "not json":
        beside.write_text("{")
    elif damage == "no recipe":
        beside.write_text(json.dumps({"round": 1}))
    else:
        path.unlink()
    with pytest.raises(ObservationError, match=r"client-03\.safetensors: not a recorded update"):
        Observation.load(path)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"w": torch.full((3, 2), torch.nan)}, "w holds NaN"),
        ({"w": torch.full((3, 2), torch.inf)}, "w holds NaN or infinite"),
        ({"w": torch.zeros(2, 3)}, r"w has shape \(2, 3\), sent \(3, 2\)"),
        ({"v": torch.zeros(1)}, "shares no array"),
    ],
)
def test_an_unusable_update_says_who_and_what(returned, message):
    with pytest.raises(ObservationError, match=f"client-03 in round 2: .*{message}"):
        observation(returned=returned).check()


@given(
    n=st.integers(1, 50),
    batch=st.integers(1, 12),
    epochs=st.integers(1, 4),
    limit=st.integers(0, 9),
)
def test_steps_and_images_are_those_of_a_loop_over_batches(n, batch, epochs, limit):
    recipe = TrainingRecipe(lr=1.0, batch_size=batch, local_epochs=epochs, max_steps=limit)
    seen, steps = set(), 0
    for _ in range(epochs):
        for start in range(0, n, batch):
            if limit and steps == limit:
                break
            seen |= set(range(start, min(start + batch, n)))
            steps += 1
    assert recipe.steps(n) == steps
    assert recipe.images(n) == len(seen)


def test_a_gradient_is_one_step_whatever_the_epochs():
    recipe = TrainingRecipe(lr=1.0, batch_size=2, local_epochs=5, update="gradient")
    assert recipe.steps(8) == 1


@pytest.mark.parametrize(("members", "steps"), [({"a": 3, "b": 9}, 5), ({"a": 9, "b": 3}, 5)])
def test_an_aggregate_has_the_steps_of_the_member_that_takes_the_most(members, steps):
    seen = observation(view="aggregate", num_examples=12, members=members)
    assert seen.steps == steps
    assert seen.images == 12


@pytest.mark.parametrize("number", [0, -1])
def test_an_update_of_no_images_is_refused(number):
    message = f"client-03 in round 2: reports {number} examples; need >= 1"
    with pytest.raises(ObservationError, match=message):
        observation(num_examples=number).check()
    observation(num_examples=1).check()


def test_an_observation_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        observation().round = 3  # type: ignore[misc]


@given(images=st.integers(1, 40), batch=st.integers(1, 40), epochs=st.integers(1, 4))
def test_without_the_last_batch_every_batch_is_whole(images, batch, epochs):
    batch = min(batch, images)
    recipe = TrainingRecipe(lr=0.1, batch_size=batch, local_epochs=epochs, drop_last=True)
    assert recipe.steps(images) == epochs * (images // batch)
    assert recipe.images(images) == batch * (images // batch)


def test_rates_follow_the_schedule_of_a_round():
    recipe = TrainingRecipe(lr=0.4, batch_size=1, schedule="step", decay=0.5, decay_every=2)
    assert recipe.rates(5) == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1])
    assert TrainingRecipe(lr=0.4, batch_size=1).rates(3) == [0.4] * 3
