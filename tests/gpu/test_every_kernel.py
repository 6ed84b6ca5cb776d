"""Each kernel launched once, forwards and backwards: what compute-sanitizer watches."""

from __future__ import annotations

import pytest
import torch
from small_calls import NAMES, agree, make, training

from benchmarks.ops.__main__ import load
from benchmarks.ops.cases import Case
from lami import ops
from lami.ops._backend import choose

pytestmark = pytest.mark.gpu
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 3e-2}


def channels_last(case: Case) -> Case:
    def convert(argument: object) -> object:
        if isinstance(argument, list):
            return [convert(tensor) for tensor in argument]
        if isinstance(argument, torch.Tensor) and argument.ndim == 4 and argument.shape[-1] != 2:
            moved = argument.detach().to(memory_format=torch.channels_last)
            return moved.requires_grad_(argument.requires_grad)
        return argument

    return Case(tuple(map(convert, case.arguments)), case.fused, case.eager)


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_kernels(name: str, dtype: torch.dtype, layout: str, deterministic: bool, cuda: torch.device) -> None:
    case = make(name, cuda, dtype)
    if layout == "channels_last":
        case = channels_last(case)
    torch.use_deterministic_algorithms(deterministic)
    try:
        results = training(case)()
    finally:
        torch.use_deterministic_algorithms(False)
    with ops.use_backend("reference"):
        agree(results, training(case)(), TOLERANCES[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_is_there(name: str, cuda: torch.device) -> None:
    """Otherwise the tests above would compare the reference with itself."""
    assert choose(load(name).op or name, cuda) in ("native", "triton")
