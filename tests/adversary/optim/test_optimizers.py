from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from adversary.optim.loop import Recording, minimise
from adversary.optim.optimizers import (
    LBFGS,
    Adam,
    Langevin,
    Projected,
    one_cycle,
    step_decay,
    warm_cosine,
)
from adversary.optim.search import Limits, Search


def rosenbrock(variables):
    x = variables["x"]
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def search(**limits) -> Search:
    return Search("test", 0, Limits(**limits))


@pytest.mark.parametrize("dimension", [2, 8])
def test_lbfgs_reaches_the_minimum_that_scipy_reaches(dimension):
    starts = torch.linspace(-1.2, 0.8, 3 * dimension, dtype=torch.float64).view(3, dimension)
    found, scores = minimise(
        rosenbrock, {"x": starts.clone()}, LBFGS(), iterations=300, search=search()
    )
    for start, x, score in zip(starts, found["x"], scores, strict=True):
        reference = minimize(rosen, start.numpy(), jac=rosen_der, method="L-BFGS-B", tol=1e-12)
        assert float(score) <= reference.fun + 1e-10
        assert float(score) == pytest.approx(rosen(x.numpy()), abs=1e-12)


def test_candidates_do_not_see_each_other():
    """Together or alone, an L-BFGS restart takes the same path."""
    starts = torch.tensor([[-1.2, 1.0], [2.0, -3.0], [0.0, 0.0]], dtype=torch.float64)
    together, _ = minimise(
        rosenbrock, {"x": starts.clone()}, LBFGS(), iterations=12, search=search()
    )
    for r, start in enumerate(starts):
        alone, _ = minimise(
            rosenbrock, {"x": start[None].clone()}, LBFGS(), iterations=12, search=search()
        )
        torch.testing.assert_close(together["x"][r], alone["x"][0])


@pytest.mark.parametrize("signed", [False, True])
def test_adam_is_torch_s_adam(signed):
    start = torch.tensor([[0.3, -0.7]])
    reference = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([reference], lr=0.05)
    for _ in range(10):
        optimiser.zero_grad()
        rosenbrock({"x": reference}).sum().backward()
        if signed:
            reference.grad.sign_()
        optimiser.step()
    moved = {"x": start.clone()}
    minimise(rosenbrock, moved, Adam(lr=0.05, signed=signed), iterations=10, search=search())
    torch.testing.assert_close(moved["x"], reference.detach())


def test_what_is_projected_stays_in_its_set_and_ends_at_the_best_of_it():
    def clamp(variables):
        variables["x"].clamp_(0, 0.5)

    start = {"x": torch.tensor([[0.1, 0.1]], dtype=torch.float64)}
    method = Projected(Adam(lr=0.02), clamp)
    best, score = minimise(rosenbrock, start, method, iterations=400, search=search())
    assert float(best["x"].min()) >= 0
    assert float(best["x"].max()) <= 0.5
    assert float(score[0]) == pytest.approx(0.25, rel=1e-3)  # (1 - 0.5)^2 where y = x^2
    assert not method.stalled()


def test_a_candidate_without_a_finite_score_is_never_best():
    starts = {"x": torch.tensor([[float("nan"), 0.0], [0.5, 0.5]], dtype=torch.float64)}
    _, scores = minimise(rosenbrock, starts, LBFGS(), iterations=20, search=search())
    assert scores[0] == torch.inf
    assert scores[1] < 1


def test_the_best_iterate_is_kept_not_the_last():
    start = {"x": torch.tensor([[1.0, 1.0 + 1e-3]], dtype=torch.float64)}
    best, score = minimise(rosenbrock, start, Adam(lr=1.0), iterations=5, search=search())
    assert float(score[0]) == pytest.approx(1e-4)
    assert float(best["x"][0, 1]) == pytest.approx(1.001)
    assert float(rosenbrock(start)[0]) > 1


def test_history_has_a_line_for_every_restart_and_iteration():
    looked = search()
    starts = {"x": torch.zeros(2, 2, dtype=torch.float64)}
    recording = Recording(first_restart=4)
    minimise(rosenbrock, starts, Adam(lr=0.1), iterations=7, search=looked, recording=recording)
    assert [(s.restart, s.iteration) for s in looked.history] == [
        (r, i) for r in (4, 5) for i in range(8)
    ]
    assert looked.evaluations == 16
    assert len({s.score for s in looked.history}) > 2  # frames are not aliases of the last


@pytest.mark.parametrize(
    ("limits", "stopped"), [({"evaluations": 5}, "evaluations"), ({"seconds": 0.0}, "seconds")]
)
def test_a_limit_ends_the_search_and_says_which(limits, stopped):
    looked = search(**limits)
    starts = {"x": torch.zeros(1, 2, dtype=torch.float64)}
    best, score = minimise(rosenbrock, starts, Adam(lr=0.1), iterations=10**6, search=looked)
    assert looked.stopped == stopped
    assert looked.evaluations <= 6
    assert torch.isfinite(score).all()
    assert best["x"].shape == (1, 2)


def test_langevin_noise_has_the_size_asked_for_and_the_seed_decides_it():
    def moved(seed: int) -> torch.Tensor:
        x = {"x": torch.zeros(2, 5000, dtype=torch.float64)}
        method = Langevin(Adam(lr=1e-12), scale=0.2, schedule=lambda step: 0.5, seed=seed)
        for _ in range(2):
            method.step(x, (torch.zeros(2), {"x": torch.ones_like(x["x"])}), lambda v: None)
        return x["x"]

    assert float(moved(1).std()) == pytest.approx(0.2 * 0.5 * 2**0.5, rel=0.05)
    assert torch.equal(moved(1), moved(1))
    assert not torch.equal(moved(1), moved(2))


def test_schedules():
    decay = step_decay(800)
    assert [decay(s) for s in (0, 299, 300, 500, 700)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    cycle = [one_cycle(100)(s) for s in range(100)]
    assert max(cycle) == pytest.approx(1, abs=1e-3)
    assert 25 <= cycle.index(max(cycle)) <= 35
    assert cycle[0] == pytest.approx(0.04, abs=1e-3)
    assert cycle[-1] < 1e-3
    warm = [warm_cosine(1050)(s) for s in (0, 24, 49, 50, 550, 1049)]
    assert warm == pytest.approx([0.02, 0.5, 1, 1, 0.5, 0], abs=1e-3)
    assert max(warm_cosine(4)(s) for s in range(4)) == 1  # a short run still reaches the top
