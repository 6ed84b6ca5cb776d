"""Each kernel launched once, forwards and backwards: what compute-sanitizer watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_calls import NAMES, agree, make, training

from benchmarks.ops.cases import Case
from benchmarks.ops.catalogue import load
from lami import ops
from lami.ops._backend import choose

pytestmark = pytest.mark.gpu
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 3e-2}


def converted(case: Case, convert: Callable[[torch.Tensor], torch.Tensor]) -> Case:
    def each(argument: Any) -> Any:
        if isinstance(argument, list):
            return [each(tensor) for tensor in argument]
        return convert(argument.detach()).requires_grad_(argument.requires_grad)

    return Case(tuple(map(each, case.arguments)), case.fused, case.eager)


def is_map(tensor: torch.Tensor) -> bool:
    """Features, images, logits and masks, but not flows and keypoints."""
    return tensor.ndim == 4 and tensor.shape[-1] > 3


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_kernels(
    name: str, dtype: torch.dtype, layout: torch.memory_format, deterministic: bool, cuda: torch.device
) -> None:
    coordinates = torch.promote_types(dtype, torch.float32)
    case = make(name, cuda, coordinates)
    if name == "grid_sample":  # wants one dtype
        case = converted(case, lambda tensor: tensor.to(dtype))
    case = converted(case, lambda tensor: tensor.to(dtype, memory_format=layout) if is_map(tensor) else tensor)
    torch.use_deterministic_algorithms(deterministic)
    try:
        results = training(case)()
    finally:
        torch.use_deterministic_algorithms(False)
    with ops.use_backend("reference"):
        agree(results, training(converted(case, lambda tensor: tensor.to(coordinates)))(), TOLERANCES[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_is_there(name: str, cuda: torch.device) -> None:
    """Otherwise the tests above would compare the reference with itself."""
    assert choose(load(name).op or name, cuda) in ("native", "triton")


def test_the_dispatcher_has_an_implementation_for_cuda(cuda: torch.device) -> None:
    """`torch.ops.lami.*` is what exported programs and other libraries call, past the public functions."""
    features, flow = (x.to(cuda) for x in (torch.rand(2, 3, 5, 7), torch.rand(2, 4, 6, 2) * 2 - 1))
    got = torch.ops.lami.warp(features, flow, None, "zeros", True)
    with ops.use_backend("reference"):
        agree([got], [ops.warp(features, flow)], TOLERANCES[torch.float32])
