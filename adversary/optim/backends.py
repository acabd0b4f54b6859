"""How the evaluations of a search are carried out: one by one, compiled, or as a CUDA graph.

A search evaluates one function thousands of times, at other images of the same shape. Launched
operation by operation, small ones cost more to launch than to compute.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from adversary.common.device_memory import out_of_memory
from adversary.common.errors import UserError

Function = Callable[..., tuple[Tensor, ...]]
"""From tensors to tensors, shapes and work the same at every call."""

WARM_UP = 3  # calls before a CUDA graph is captured, for cuDNN to choose and to allocate


class ExecutionError(UserError, RuntimeError):
    """A function cannot be carried out in the way that was asked for; the message says why."""


def _eager(function: Function, example: tuple[Tensor, ...]) -> Function:
    return function


def _compiled(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Trace the operations, double backward included, and compile them (TorchInductor)."""
    with torch.no_grad():
        # The reduced graph has no autograd in it, so it can be compiled where the function cannot.
        traced = make_fx(function)(*example)
        made = torch.compile(traced, dynamic=False)

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(made(*values))

    return call


def _cuda_graph(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Record the kernels once, and launch them all together from then on (CUDA graph)."""
    if example[0].device.type != "cuda":
        raise ExecutionError(f"CUDA graphs need a GPU, and this is {example[0].device.type}")
    inputs = tuple(value.clone() for value in example)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(*inputs)

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(inputs, values, strict=True):
            own.copy_(given)
        graph.replay()
        return tuple(output.clone() for output in outputs)  # the next replay writes over them

    return call


EXECUTIONS: dict[str, Callable[[Function, tuple[Tensor, ...]], Function]] = {
    "eager": _eager,
    "compiled": _compiled,
    "cuda-graph": _cuda_graph,
}
"""By name; each takes a function and values to try it at."""


def prepare_function(
    name: str, function: Function, example: tuple[Tensor, ...], *, tolerance: float = 1e-3
) -> tuple[Function, str | None]:
    """Return a function to be called as ``function`` is, and why it is the plain one, if it is.

    What was compiled or captured is compared with the plain function at the example: choices made
    by looking at values, which an objective may hold, are frozen in it.

    Parameters
    ----------
    name : str
        One of :data:`EXECUTIONS`.
    function : callable
        From tensors to tensors; always of the shapes and on the device of the example.
    example : tuple of Tensor
        Values to trace with.
    tolerance : float
        Difference at the example, of the largest entry, that is put down to rounding.
    """
    try:
        made = EXECUTIONS[name](function, example)
        if made is function:
            return function, None
        found = made(*example)
    except Exception as error:  # compilers fail in ways of their own; the plain function does not
        if out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return function, f"evaluations are plain ones, not {name}: {reason}"
    expected = function(*example)
    if not all(_matches_eager(a, b, tolerance) for a, b in zip(found, expected, strict=True)):
        return function, f"evaluations are plain ones: the {name} ones gave other values"
    return made, None


def _matches_eager(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())
