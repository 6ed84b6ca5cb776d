"""Calls of every op for the tests on a device: those of the benchmarks, in small."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.ops.cases import BOTH, FORWARD, Case, Size
from benchmarks.ops.catalogue import NAMES, load
from benchmarks.ops.inputs import Inputs
from benchmarks.ops.measure import Run, passes

__all__ = ["NAMES", "agree", "make", "training"]

SMALL = Size(batch=2, side=33, flow=17, channels=8, times=2, splines=3)
"""Odd, so that the last block of threads is partly empty."""


def make(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Case:
    """The same numbers at each call."""
    return load(name).setup(SMALL, Inputs(device, dtype))


def training(case: Case) -> Run:
    """Forward and backward of the fused op, with gradients of ones."""
    results = passes(case.fused, case.arguments)[FORWARD]()()
    return passes(case.fused, case.arguments, [torch.ones_like(result) for result in results])[BOTH]()


def agree(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 0.0) -> None:
    """Asserts a relative error by norm of at most `tolerance`, or with 0 the same bits."""
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        what = f"tensor {index} of shape {tuple(a.shape)}"
        assert a.shape == b.shape, what
        if tolerance == 0:
            assert torch.equal(a, b), f"{what} differs"
        else:
            a, b = a.detach().double(), b.detach().double()
            assert (a - b).norm() <= tolerance * b.norm() + 1e-12, f"{what}: {(a - b).norm() / b.norm():.1e}"
