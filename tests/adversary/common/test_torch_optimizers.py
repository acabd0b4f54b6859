"""Steps have the bits of torch's classes, and do not load its compiler."""

import subprocess
import sys

import pytest
import torch

from adversary.common.torch_optimizers import SGD, Adam

SHAPES = ((3, 4), (5,), ())
STEPS = 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [
        (SGD, torch.optim.SGD, {}),
        (SGD, torch.optim.SGD, {"momentum": 0.9}),
        (SGD, torch.optim.SGD, {"momentum": 0.5, "weight_decay": 0.01}),
        (Adam, torch.optim.Adam, {}),
        (Adam, torch.optim.Adam, {"betas": (0.7, 0.9), "eps": 1e-6, "weight_decay": 0.01}),
    ],
)
def test_steps_have_the_bits_of_torchs_classes(ours, torchs, options, seed, dtype):
    draw = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=draw, dtype=dtype) for shape in SHAPES]
    mine, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    optimizer, reference = ours(mine, **options), torchs(theirs, lr=1.0, **options)
    for step in range(STEPS):
        rate = 0.1 / (1 + step)
        reference.param_groups[0]["lr"] = rate
        for place, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            without = place == 1 and step in (0, 2)  # of a layer that this batch does not use
            gradient = torch.randn(a.shape, generator=draw, dtype=dtype)
            a.grad = None if without else gradient.clone()
            b.grad = None if without else gradient.clone()
        optimizer.step(rate)
        reference.step()
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a, b)
    assert not any(torch.equal(a, b) for a, b in zip(mine, start, strict=True))


def test_a_step_does_not_load_torchs_compiler():
    code = (
        "import sys, torch\n"
        "from adversary.common.torch_optimizers import SGD, Adam\n"
        "for kind in (SGD, Adam):\n"
        "    weight = torch.ones(2, requires_grad=True)\n"
        "    weight.square().sum().backward()\n"
        "    kind([weight]).step(0.1)\n"
        "    assert not torch.equal(weight, torch.ones(2))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
