"""Evaluations that are compiled or captured give what plain ones give, or are not used."""

import shutil
from functools import partial

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks import AttackOptionError, create
from adversary.optim.backends import prepare_function
from adversary.problem.problem import build_problem

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


@pytest.fixture
def problem(tiny_net, update):
    torch.manual_seed(1)
    model = tiny_net()
    seen = update(
        model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), TrainingRecipe(lr=0.1, batch_size=2)
    )
    return build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))


@pytest.fixture
def without_compiler(monkeypatch):
    """Trace and reduce as for the compiler, and carry out what is left operation by operation."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def rosenbrock(x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = (100 * (leaf[:, 1:] - leaf[:, :-1] ** 2) ** 2 + (1 - leaf[:, :-1]) ** 2).sum(1)
        return value.detach(), *torch.autograd.grad(value.sum(), leaf)


def by_value(x):
    """An objective that looks at its values, which nothing fixed can follow."""
    return (x * 2,) if bool(x.sum() > 0) else (x * 3,)


def test_traced_function_follows_other_values(without_compiler):
    made, note = prepare_function("compiled", rosenbrock, (torch.randn(3, 5),))
    assert note is None
    assert made is not rosenbrock
    for seed in range(3):
        x = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
        for found, expected in zip(made(x), rosenbrock(x), strict=True):
            torch.testing.assert_close(found, expected)


@needs_compiler
def test_compiled_function_gives_the_values_of_the_plain_one(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes are left
    # One call of the compiler, for one function: it would try each kind of vector instructions
    # in a process with torch in it, and compile the headers of many functions to come.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
    monkeypatch.setattr("torch._inductor.config.cpp_cache_precompile_headers", False)
    made, note = prepare_function("compiled", rosenbrock, (torch.randn(3, 5),))
    assert note is None
    x = torch.randn(3, 5)
    for found, expected in zip(made(x), rosenbrock(x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["dlg", "igi", "ing", "stg", "encgrad"])
def test_every_attack_that_matches_gradients_can_be_traced(problem, name, without_compiler):
    options = {"iterations": "4", "refine": "2", "inversion": "adam"}
    options = {k: v for k, v in options.items() if name == "encgrad" or k == "iterations"}
    plain = create(name, options, restarts=2).run(problem, seed=5)
    traced = create(name, {**options, "execution": "compiled"}, restarts=2).run(problem, seed=5)
    assert traced.notes == plain.notes, "no note: nothing fell back"
    assert traced.evaluations == plain.evaluations
    torch.testing.assert_close(traced.images, plain.images, atol=1e-2, rtol=0)


def test_what_looks_at_its_values_is_evaluated_plainly(without_compiler):
    made, note = prepare_function("compiled", by_value, (torch.ones(2, 2),))
    assert made is by_value
    assert note is not None
    assert note.startswith("evaluations are plain ones, not compiled: ")
    assert "\n" not in note


def test_other_values_than_the_plain_ones_are_refused(monkeypatch):
    wrong = {"compiled": lambda function, example: lambda x: (x + 1,)}
    monkeypatch.setattr("adversary.optim.backends.EXECUTIONS", wrong)
    made, note = prepare_function("compiled", lambda x: (x,), (torch.ones(2, 2),))
    assert note == "evaluations are plain ones: the compiled ones gave other values"
    assert torch.equal(made(torch.zeros(1, 1))[0], torch.zeros(1, 1))


def test_memory_that_runs_out_is_not_taken_for_a_failed_compilation(monkeypatch):
    def fail(function, example):
        raise torch.OutOfMemoryError("40 GiB")

    monkeypatch.setattr("adversary.optim.backends.EXECUTIONS", {"compiled": fail})
    with pytest.raises(torch.OutOfMemoryError):
        prepare_function("compiled", rosenbrock, (torch.ones(1, 2),))


def test_cuda_graphs_need_a_gpu(problem):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    found = create("ing", {"iterations": "2", "execution": "cuda-graph"}).run(problem)
    assert found.notes == (
        "evaluations are plain ones, not cuda-graph: CUDA graphs need a GPU, and this is cpu",
    )


@needs_gpu
def test_cuda_graph_ends_where_plain_evaluations_do(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), TrainingRecipe(lr=0.1, batch_size=2)
    )
    gpu = torch.device("cuda")
    on_gpu = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), device=gpu)
    plain, captured = (
        create("ing", {"iterations": "15", "execution": how}).run(on_gpu, seed=3)
        for how in ("eager", "cuda-graph")
    )
    assert captured.notes == plain.notes
    torch.testing.assert_close(captured.images, plain.images, atol=1e-3, rtol=0)


def test_unknown_execution_is_refused_by_name():
    with pytest.raises(AttackOptionError, match=r"ing.execution = 'jit': must be one of eager"):
        create("ing", {"execution": "jit"})
