"""Paths to a known end, against the normal processes that they are drawn from."""

from __future__ import annotations

import pytest
import torch

from adversary.identification.bridge import Bridge
from adversary.identification.rehearsal import Rehearsal

SIZE, STEPS = 20_000, 8


def process(paths: int, kept: float, draws: torch.Generator) -> torch.Tensor:
    """Return paths of x(t + 1) = kept x(t) + noise from 0, (paths, STEPS + 1, SIZE)."""
    found = [torch.zeros(paths, SIZE)]
    for _ in range(STEPS):
        found.append(kept * found[-1] + torch.randn(paths, SIZE, generator=draws))
    return torch.stack(found, 1)


def bridge(rehearsed: torch.Tensor, end: torch.Tensor, sent: torch.Tensor | None = None) -> Bridge:
    """Return a bridge of one array, in rows of ten."""
    made = [
        Rehearsal([{"w": at.view(10, -1), "n": torch.tensor(step)} for step, at in enumerate(one)],
                  [], [], (torch.zeros(1), torch.zeros(1)))
        for one in rehearsed
    ]  # fmt: skip
    start = rehearsed[0, 0] if sent is None else sent
    moved = {"w": (start - end).view(10, -1).double()}
    return Bridge(made, {"w": start.view(10, -1), "n": torch.tensor(0)}, moved)


def variances(kept: float) -> list[float]:
    """Return the variance of the process at each step."""
    found = [0.0]
    for _ in range(STEPS):
        found.append(kept**2 * found[-1] + 1)
    return found


@pytest.mark.parametrize("kept", [1.0, 0.8, 0.3])
@pytest.mark.parametrize("count", [4, 16])
def test_it_lies_as_near_to_another_path_as_the_conditional_distribution_says(kept, count):
    draws = torch.Generator().manual_seed(count)
    made, client = process(count, kept, draws), process(1, kept, draws)[0]
    found, variance = bridge(made, client[-1]), variances(kept)
    for step in range(1, STEPS):
        factor = kept ** (STEPS - step) * variance[step] / variance[-1]
        # A random walk's is that of the Brownian bridge, t (T - t) / T; of few draws the mean of
        # what is left is off as well.
        left = variance[step] - factor**2 * variance[-1]
        error = float((found.at(step)["w"].flatten() - client[step]).square().mean())
        assert error == pytest.approx((1 + 1 / count) * left, rel=0.05)


@pytest.mark.parametrize("count", [4, 8, 12])  # with a main direction from 8
def test_draws_lie_about_the_mean_as_the_client_does(count):
    draws = torch.Generator().manual_seed(0)
    made, client = process(count, 0.8, draws), process(1, 0.8, draws)[0]
    found = bridge(made, client[-1])
    for step in (2, 5, 7):
        mean = found.at(step)["w"]
        each = torch.stack([found.at(step, own)["w"] for own in range(count)])
        torch.testing.assert_close(each.mean(0), mean, rtol=0, atol=1e-5)
        spread = float((each - mean).square().sum()) / SIZE / found.freedom
        error = float((mean.flatten() - client[step]).square().mean())
        assert error == pytest.approx((1 + 1 / count) * spread, rel=0.08)


@pytest.mark.parametrize("own", [None, 0, 3])
def test_it_begins_and_ends_where_the_client_did(own):
    draws = torch.Generator().manual_seed(1)
    sent = torch.randn(SIZE, generator=draws)
    made, client = sent + process(9, 0.9, draws), sent + process(1, 0.9, draws)[0]
    found = bridge(made, client[-1])
    torch.testing.assert_close(found.at(0, own)["w"].flatten(), sent)
    torch.testing.assert_close(found.at(STEPS, own)["w"].flatten(), client[-1], atol=1e-5, rtol=0)
    assert int(found.at(3, own)["n"]) == 3  # counts are as in a rehearsal


@pytest.mark.parametrize("seed", range(3))
def test_what_moves_most_is_followed_where_it_has_a_course_of_its_own(seed):
    """A swing that is over at the end says where the weights were, against the line."""
    draws = torch.Generator().manual_seed(seed)
    axis, course = torch.randn(SIZE, generator=draws), torch.linspace(0, 1, STEPS + 1)
    course = course * (3 - 2 * course) + torch.sin(torch.pi * course)
    sizes = 0.2 * torch.randn(9, generator=draws)
    sizes[-1] = 0.7
    swings = sizes[:, None, None] * course[:, None] * axis
    paths = swings + 0.01 * process(9, 1.0, draws)
    found = bridge(paths[:8], paths[8, -1])
    error = float((found.at(4)["w"].flatten() - paths[8, 4]).square().mean().sqrt())
    line = float((paths[8, -1] / 2 - paths[8, 4]).square().mean().sqrt())
    assert error < 0.1 * line


def test_one_rehearsal_is_moved_to_the_end_as_the_steps_go():
    draws = torch.Generator().manual_seed(2)
    made, client = process(1, 0.9, draws), process(1, 0.9, draws)[0]
    found = bridge(made, client[-1]).at(2)["w"].flatten()
    expected = made[0, 2] + 2 / STEPS * (client[-1] - made[0, -1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_is_not_observed_follows_what_is():
    draws = torch.Generator().manual_seed(3)
    axis, sizes = torch.randn(50, generator=draws), torch.randn(8, generator=draws)
    made = [
        Rehearsal([{"seen": torch.zeros(50), "hidden": torch.zeros(50)},
                   {"seen": size * axis / 2, "hidden": -size * axis},
                   {"seen": size * axis, "hidden": -size * axis}],
                  [], [], (torch.zeros(1), torch.zeros(1)))
        for size in sizes
    ]  # fmt: skip
    found = Bridge(made, made[0].weights[0], {"seen": -1.7 * axis}).at(1)
    torch.testing.assert_close(found["seen"], 0.85 * axis, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["hidden"], -1.7 * axis, atol=1e-5, rtol=0)
