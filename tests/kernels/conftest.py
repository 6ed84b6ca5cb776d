"""Triton kernels run here under Triton's interpreter, on the CPU: `TRITON_INTERPRET=1 pytest tests/kernels`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

# Test modules import the kernels, and these import Triton, which PyTorch brings along for CUDA only.
if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _interpreted(request: pytest.FixtureRequest) -> None:
    compiles_only = request.path.stem == "test_aot"  # for GPUs, which the interpreter precludes
    if os.environ.get("TRITON_INTERPRET") != "1" and not compiles_only:
        pytest.skip("set TRITON_INTERPRET=1 before Python starts to run Triton kernels on the CPU")


class _Op(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Callable, backward: Callable, *inputs: Tensor) -> Any:
        outputs = forward(*inputs)
        ctx.rule, ctx.inputs, ctx.outputs = backward, inputs, outputs
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.rule(*grads, ctx.outputs, *ctx.inputs))


@pytest.fixture
def differentiable() -> Callable[[Callable, Callable], Callable]:
    """`differentiable(forward, backward)` is forward under autograd; backward takes (*grads, outputs, *inputs)."""
    return lambda forward, backward: lambda *inputs: _Op.apply(forward, backward, *inputs)
