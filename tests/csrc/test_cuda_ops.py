"""The native CUDA ops on a device: values and gradients, repeatability, streams and CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from multi_time import MultiTime
from torch import Tensor

import lami.ops  # noqa: F401  # defines the schemas
from lami._native import native_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def ops() -> MultiTime:
    if (error := native_error("cuda")) is not None:
        pytest.skip(error)
    return MultiTime("lami", "cuda")


def pyramid(dtype: torch.dtype, layout: torch.memory_format) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    coordinates = torch.promote_types(dtype, torch.float32)
    sizes = [(16, 64, 64), (33, 32, 31), (128, 8, 8)]
    features = [torch.randn(2, *size).to("cuda", dtype).to(memory_format=layout) for size in sizes]
    flow = (torch.rand(2, 3, 32, 32, 2) * 2.4 - 1.2).to("cuda", coordinates)
    return features, flow, [torch.rand(2, 3, 1, h, w).to("cuda", coordinates) for _, h, w in sizes]


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("n", [3, 5, 6, 13, 14, 16])
def test_fits(ops: MultiTime, n: int, dtype: torch.dtype) -> None:
    ops.check_fit((7, 11), n, dtype)


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_keypoints(ops: MultiTime, dtype: torch.dtype) -> None:
    ops.check_keypoints(3, 4, 10, 5, dtype)
    ops.check_keypoints(0, 4, 10, 5, dtype)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_features(ops: MultiTime, dtype: torch.dtype, deterministic: bool) -> None:
    ops.check_features(ops.features_inputs((2, 3, 64, 61), 3, 10, 5, dtype, True), deterministic)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
def test_warps(ops: MultiTime, dtype: torch.dtype, layout: torch.memory_format, deterministic: bool) -> None:
    ops.check_warp(*pyramid(dtype, layout), deterministic)


def test_deterministic_gradients_repeat_bitwise(ops: MultiTime) -> None:
    features, flow, masks = pyramid(torch.float32, torch.contiguous_format)
    grads = [torch.randn(2, 3, *level.shape[1:], device="cuda") for level in features]
    first, *others = (
        ops.call("anytime_warp_backward", grads, features, flow, masks, True, True, True, True) for _ in range(10)
    )
    for other in others:
        assert torch.equal(first[1], other[1])
        assert all(map(torch.equal, first[0] + first[2], other[0] + other[2]))

    inputs = ops.features_inputs((2, 3, 64, 64), 3, 10, 5, torch.float32, True)
    grad = torch.randn_like(ops.call("anytime_motion_features", *inputs, 0.01))
    arguments = (grad, *inputs, 0.01, True, True, True, True, True)
    first, *others = (ops.call("anytime_motion_features_backward", *arguments) for _ in range(10))
    assert all(all(map(torch.equal, first, other)) for other in others)


def test_runs_on_the_current_stream(ops: MultiTime) -> None:
    inputs = ops.features_inputs((2, 3, 64, 64), 3, 10, 5, torch.float32, False)
    wanted = ops.call("anytime_motion_features", *inputs, 0.01)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        late = [None if tensor is None else tensor.clone() for tensor in inputs]
        got = ops.call("anytime_motion_features", *late, 0.01)
    stream.synchronize()
    assert torch.equal(got, wanted)


def test_replays_from_a_graph(ops: MultiTime) -> None:
    inputs = ops.features_inputs((2, 3, 64, 64), 3, 10, 5, torch.float32, True)
    features, flow, masks = pyramid(torch.bfloat16, torch.channels_last)

    def everything() -> list[Tensor]:
        motion = ops.call("anytime_motion_features", *inputs, 0.01)
        back = ops.call("anytime_motion_features_backward", motion, *inputs, 0.01, True, True, True, True, True)
        warped = ops.call("anytime_warp", features, flow, masks)
        of = ops.call("anytime_warp_backward", warped, features, flow, masks, True, True, True, True)
        return [motion, *back, *warped, *of[0], of[1], *of[2]]

    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        everything()
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything()
    for tensor in (*features, flow, *masks, *(tensor for tensor in inputs if tensor is not None)):
        tensor.mul_(0.9)
    graph.replay()
    assert all(map(torch.equal, captured, everything()))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_runs_on_the_device_of_its_inputs(ops: MultiTime) -> None:
    MultiTime("lami", "cuda:1").check_fit((7, 11), 5, torch.float32)
