"""The Triton tps_warp against the reference: one kernel at the flow's size, two at others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.tps_warp import tps_warp, tps_warp_backward
from lami.ops import reference

SAME, OTHER = ((6, 7), (6, 7)), ((9, 8), (4, 5))
"""Sizes of image and flow."""


def inputs(
    sizes: tuple[tuple[int, int], tuple[int, int]],
    channels: int = 3,
    batch: int = 2,
    splines: int = 2,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, ...]:
    """Image, logits, driving and source keypoints, background."""
    image = torch.randn(batch, channels, *sizes[0], dtype=torch.float64)
    logits = torch.randn(batch, splines + 1, *sizes[1], dtype=torch.float64)
    driving = torch.rand(batch, splines, 4, 2, dtype=torch.float64) * 1.6 - 0.8
    source = driving + 0.1 * torch.randn_like(driving)
    background = torch.eye(3, dtype=torch.float64) + 0.03 * torch.randn(batch, 3, 3, dtype=torch.float64)
    return tuple(t.to(dtype) for t in (image, logits, driving, source, background))


def expected(
    grads: tuple[Tensor, Tensor], tensors: tuple[Tensor, ...], keep: Tensor | None, corrected: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Results and gradients, in fp64."""
    leaves = tuple(t.double().requires_grad_() for t in tensors)
    flow, _ = reference.blend_flow(*leaves[1:], keep, "corrected" if corrected else "reference")
    results = (reference.warp(leaves[0], flow), flow)
    gradients = torch.autograd.grad(results, leaves, tuple(g.double() for g in grads))
    return tuple(t.detach() for t in results), gradients


@pytest.mark.parametrize(
    ("sizes", "channels", "dropped", "corrected", "dtype", "precision"),
    [
        (SAME, 3, False, False, torch.float64, 1e-12),
        (SAME, 3, False, False, torch.float32, 3e-5),
        (SAME, 1, True, False, torch.float64, 1e-12),
        (SAME, 9, True, True, torch.float64, 1e-12),
        (SAME, 9, False, False, torch.float32, 3e-5),
        (OTHER, 3, True, False, torch.float32, 3e-5),
        (OTHER, 9, True, True, torch.float64, 1e-12),
    ],
)
def test_equals_the_reference(
    sizes: tuple[tuple[int, int], tuple[int, int]],
    channels: int,
    dropped: bool,
    corrected: bool,
    dtype: torch.dtype,
    precision: float,
) -> None:
    tensors = inputs(sizes, channels, dtype=dtype)
    if channels == 9:
        tensors = (tensors[0].to(memory_format=torch.channels_last), *tensors[1:])
    keep = torch.tensor([[True, False, True], [False, True, True]]) if dropped else None
    grads = (torch.randn_like(tensors[0]), torch.randn(2, *sizes[1], 2, dtype=dtype))
    wanted, wanted_grads = expected(grads, tensors, keep, corrected)

    warped, flow = tps_warp(*tensors, keep, corrected)
    image, logits, *rest = tensors
    got = tps_warp_backward(*grads, image, logits, flow, *rest, keep, corrected, True, True, True, True, False)

    assert warped.stride() == image.stride()
    for ours, want in zip((warped, flow, *got), (*wanted, *wanted_grads), strict=True):
        assert ours.dtype == dtype
        assert_close(ours.double(), want, atol=precision * float(1 + want.abs().max()), rtol=0)


@pytest.mark.parametrize("sizes", [((4, 5), (4, 5)), ((4, 3), (2, 3))])
def test_gradients(sizes: tuple[tuple[int, int], tuple[int, int]], differentiable: Callable) -> None:
    def backward(grad_warped: Tensor, grad_flow: Tensor, results: tuple[Tensor, Tensor], *tensors: Tensor) -> tuple:
        image, logits, *rest = tensors
        needs = (True, True, True, True, False)
        return tps_warp_backward(grad_warped, grad_flow, image, logits, results[1], *rest, None, False, *needs)

    op = differentiable(lambda *tensors: tps_warp(*tensors, None, False), backward)
    leaves = [t.requires_grad_() for t in inputs(sizes, channels=2, batch=1, splines=1)]
    assert torch.autograd.gradcheck(op, leaves, fast_mode=True)


@pytest.mark.parametrize("sizes", [SAME, OTHER])
def test_the_flow_has_the_precision_of_the_finest_input(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    image, *motions = inputs(sizes)
    motions = [t.float() for t in motions]
    warped, flow = tps_warp(image, *motions, None, False)
    wanted = reference.blend_flow(*(t.double() for t in motions))[0]
    assert_close(flow, wanted, atol=1e-12, rtol=0)
    assert_close(warped, reference.warp(image, wanted), atol=1e-12, rtol=0)
    grads = (torch.ones_like(warped), torch.ones_like(flow))
    logits, *rest = motions
    got = tps_warp_backward(*grads, image, logits, flow, *rest, None, False, True, True, True, True, False)
    assert [g.dtype for g in got] == [torch.float64] + [torch.float32] * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_images_move_by_fp32_flows(dtype: torch.dtype) -> None:
    image, *motions = inputs(SAME, dtype=torch.float32)
    image = image.to(dtype)
    warped, flow = tps_warp(image, *motions, None, False)
    assert flow.dtype == torch.float32
    assert_close(warped, reference.warp(image.float(), flow).to(dtype))


def test_gradients_that_are_not_needed_have_no_elements() -> None:
    tensors = inputs(SAME)
    image, logits, *rest = tensors
    flow = tps_warp(*tensors, None, False)[1]
    grads = (torch.randn_like(image), torch.randn_like(flow))
    _, wanted = expected(grads, tensors, None, False)
    for needs in [(True, False, False, False), (False, True, False, False), (False, False, True, False)]:
        got = tps_warp_backward(*grads, image, logits, flow, *rest, None, False, *needs, False)
        each = (needs[0], needs[1], needs[2], needs[2], needs[3])
        for needed, ours, want in zip(each, got, wanted, strict=True):
            if needed:
                assert_close(ours, want, atol=1e-11, rtol=1e-11)
            else:
                assert ours.shape == (0,)


def test_empty() -> None:
    for sizes, channels, batch in [(SAME, 0, 2), (SAME, 3, 0), (((0, 5), (0, 5)), 3, 2), (((0, 5), (4, 4)), 3, 2)]:
        tensors = inputs(sizes, channels, batch)
        warped, flow = tps_warp(*tensors, None, False)
        assert warped.shape == tensors[0].shape
        assert_close(flow, reference.blend_flow(*tensors[1:])[0])
