"""Peak memory, and tensors past 2^31 elements."""

from __future__ import annotations

import pytest
import torch

from benchmarks.ops.cases import BOTH, FORWARD, Size
from benchmarks.ops.catalogue import load
from benchmarks.ops.inputs import Inputs
from benchmarks.ops.measure import passes
from lami import ops
from lami.bench.memory import peak_bytes

pytestmark = pytest.mark.gpu
SIZE = Size(batch=4, side=128, flow=128)
GRID_BYTES = SIZE.batch * SIZE.side**2 * 2 * 4
"""Of one candidate motion."""


def size_of(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("name", ["motion_features", "blend_flow", "tps_warp"])
def test_candidate_motions_are_never_in_memory(name: str, cuda: torch.device) -> None:
    """Beyond results and gradients no more than two of the K + 1 grids."""
    case = load(name).setup(SIZE, Inputs(cuda))
    forward = passes(case.fused, case.arguments)[FORWARD]()
    results = forward()
    assert peak_bytes(forward, cuda) < size_of(results) + 2 * GRID_BYTES
    run = passes(case.fused, case.arguments, [torch.ones_like(result) for result in results])[BOTH]()
    run()  # compiles
    assert peak_bytes(run, cuda) < size_of(run()) + 2 * GRID_BYTES


def test_features_are_not_repeated_for_each_time(cuda: torch.device) -> None:
    case = load("anytime_warp").setup(Size(batch=2, side=128, flow=32, times=4), Inputs(cuda))
    features = size_of(case.arguments[0])
    forward = passes(case.fused, case.arguments)[FORWARD]()
    results = forward()
    assert peak_bytes(forward, cuda) < size_of(results) + features


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_offsets_past_32_bits(layout: torch.memory_format, cuda: torch.device) -> None:
    """More than 2^31 elements, so that 32-bit offsets would wrap: the last sample must equal itself alone."""
    shape = (33, 1024, 256, 256)
    elements = 33 * 2**26
    assert elements > 2**31
    needed = 13 * elements  # features, result and their gradients in bf16, sums of gradients in fp32
    if torch.cuda.mem_get_info(cuda)[0] < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB of free GPU memory")
    torch.manual_seed(0)
    last = torch.randn((1, *shape[1:]), device=cuda, dtype=torch.bfloat16)
    features = torch.zeros(shape, device=cuda, dtype=torch.bfloat16, memory_format=layout)
    features[-1:] = last
    flow = Inputs(cuda).flow(1, side=64).detach()
    features.requires_grad_()
    last = last.contiguous(memory_format=layout).requires_grad_()
    warped = ops.warp(features, flow.expand(shape[0], -1, -1, -1))
    alone = ops.warp(last, flow)
    assert torch.equal(warped[-1:], alone)
    assert not warped[:-1].any()
    gradient = torch.autograd.grad(warped, features, torch.ones_like(warped))[0]
    expected = torch.autograd.grad(alone, last, torch.ones_like(alone))[0]
    torch.testing.assert_close(gradient[-1:], expected, atol=0.02, rtol=0.02)
