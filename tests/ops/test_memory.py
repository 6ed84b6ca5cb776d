"""Fused ops allocate their results and little else: no grid of each motion, no distances, no repeated source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from ops.samples import affine, keypoints, random_like
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lami import ops
from lami.ops import _backend

B, T, C, K, N, SIDE = 2, 3, 16, 10, 5, 64
PIXELS, FLOAT = SIDE * SIDE, 4
GRID = B * (K + 1) * PIXELS * 2 * FLOAT
"""Bytes of the candidate motions, if they were in memory."""
REPEATED = B * T * C * PIXELS * FLOAT
"""Bytes of the features, repeated for each time."""
SLACK = 64 * 1024
"""Splines, sums of gradients over parts of the image."""


@pytest.fixture(autouse=True)
def _fused(device: torch.device) -> Iterator[None]:
    backend = "native" if device.type == "cpu" else "triton"
    reason = _backend.missing(backend, "warp", device.type)
    if reason is not None:
        pytest.skip(reason)
    with ops.use_backend(backend):
        yield


def peak(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes allocated at a time above what was there before."""
    call()  # what is made once: compiled kernels, scratch of libraries
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = call()
    del result
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    allocated = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        most = max(most, allocated)
    return most


def measure(
    device: torch.device, call: Callable[..., Tensor | list[Tensor] | tuple[Tensor, ...]], inputs: list[Tensor]
) -> dict[str, tuple[int, int]]:
    """For a forward and a backward pass: peak, and bytes of the results."""

    def size(tensors: list[Tensor]) -> int:
        return sum(x.numel() * x.element_size() for x in tensors)

    def forward(*leaves: Tensor) -> list[Tensor]:
        result = call(*leaves)
        return [result] if isinstance(result, Tensor) else list(result)

    inputs = [x.float().to(device) for x in inputs]
    leaves = [x.clone().requires_grad_() for x in inputs]
    outputs = forward(*leaves)
    cotangents = [torch.ones_like(y) for y in outputs]
    with torch.no_grad():
        forward_peak = peak(lambda: forward(*inputs), device)
    backward_peak = peak(lambda: torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True), device)
    return {"forward": (forward_peak, size(outputs)), "backward": (backward_peak, size(inputs))}


def _motion(channels: int) -> list[Tensor]:
    maps = random_like((B, channels, SIDE, SIDE), 0)
    return [maps, keypoints(B, K, N, 1), keypoints(B, K, N, 2), affine(B)]


def test_motion_features(device: torch.device) -> None:
    fused = measure(device, ops.motion_features, _motion(3))
    for most, results in fused.values():
        assert most <= results + SLACK
    with ops.use_backend("reference"):
        plain = measure(device, ops.motion_features, _motion(3))
    assert plain["forward"][0] >= plain["forward"][1] + GRID


def test_blend_flow(device: torch.device) -> None:
    fused = measure(device, ops.blend_flow, _motion(K + 1))
    for most, results in fused.values():
        assert most <= results + SLACK
    with ops.use_backend("reference"):
        plain = measure(device, ops.blend_flow, _motion(K + 1))
    assert plain["forward"][0] >= plain["forward"][1] + GRID


def _anytime_warp(flow: Tensor, *features: Tensor) -> list[Tensor]:
    return ops.anytime_warp(features, flow)


def test_anytime_warp(device: torch.device) -> None:
    flow = random_like((B, T, SIDE // 4, SIDE // 4, 2), 1)
    inputs = [flow, *(random_like((B, C, n, n), 2) for n in (SIDE, SIDE // 2))]
    fused = measure(device, _anytime_warp, inputs)
    most, results = fused["forward"]
    assert most <= results + SLACK
    most, results = fused["backward"]
    # A gradient of the coordinates of each sampled pixel may be kept until it is gathered into the flow.
    assert most <= results + B * T * PIXELS * 2 * FLOAT + SLACK
    with ops.use_backend("reference"):
        plain = measure(device, _anytime_warp, inputs)
    assert plain["forward"][0] >= plain["forward"][1] + REPEATED
