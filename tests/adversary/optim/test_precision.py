"""What a precision does to the products of an evaluation, and where it can be had."""

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks import AttackOptionError, create
from adversary.optim.precision import PRECISIONS, matmul_precision
from adversary.problem.problem import build_problem

CPU = torch.device("cpu")


@pytest.fixture
def problem(tiny_net, update):
    torch.manual_seed(1)
    model = tiny_net()
    seen = update(
        model, torch.rand(1, 1, 8, 8), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1)
    )
    return build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))


def product():
    draw = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 64, 64, generator=draw)
    exact = a.double() @ b.double()
    return float((a @ b - exact).abs().max() / exact.abs().max())


def test_bfloat16_rounds_products_and_full_does_not():
    with matmul_precision("full", CPU):
        assert product() < 1e-6
    with matmul_precision("bfloat16", CPU):
        assert 1e-4 < product() < 1e-1
    assert product() < 1e-6, "and is left behind"


def test_flags_of_the_process_are_given_back_even_after_an_error():
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for name in PRECISIONS:
        with pytest.raises((RuntimeError, ValueError)), matmul_precision(name, CPU):
            raise RuntimeError
    assert flags == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    assert not torch.is_autocast_enabled("cpu")


def test_bfloat16_reconstructs_with_rounded_evaluations(problem):
    full, rounded = (
        create("ing", {"iterations": "60", "precision": name}).run(problem, seed=2)
        for name in ("full", "bfloat16")
    )
    assert not torch.equal(full.images, rounded.images)
    assert rounded.images.dtype == torch.float32
    assert rounded.score < rounded.history[0].score


def test_tf32_on_a_cpu_is_refused_in_one_line(problem):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match="precision = 'tf32': only GPUs have it"):
        create("ing", {"iterations": "2", "precision": "tf32"}).run(problem)


def test_attacks_in_float64_take_no_other_precision():
    with pytest.raises(AttackOptionError, match=r"dlg.precision = 'bfloat16': must be one of full"):
        create("dlg", {"precision": "bfloat16"})
