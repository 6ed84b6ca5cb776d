"""The Triton warp against the reference: layouts, resizes, shared features, hostile flows, order of sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.warp import warp, warp_backward
from lami.ops import reference

PADDINGS = ("zeros", "border", "reflection")
PRECISION = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values, contiguous, channels last, or neither and at an offset."""
    if layout == "channels_last":
        return tensor.to(memory_format=torch.channels_last)
    if layout == "strided":
        padded = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), math.nan, dtype=tensor.dtype)
        padded[..., 1::2] = tensor
        return padded[..., 1::2]
    return tensor


def inputs(
    size: tuple[int, int],
    flow_size: tuple[int, int],
    mask_size: tuple[int, int] | None,
    batch: int = 2,
    times: int = 1,
    channels: int = 3,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features, flow and mask; some positions lie outside the features."""
    features = torch.randn(batch, channels, *size, dtype=torch.float64).to(dtype)
    other = torch.float64 if dtype == torch.float64 else torch.float32
    flow = (0.8 * torch.randn(batch * times, *flow_size, 2, dtype=torch.float64)).to(other)
    mask = None if mask_size is None else torch.rand(batch * times, 1, *mask_size, dtype=torch.float64).to(other)
    return features, flow, mask


def expected(
    grad: Tensor, features: Tensor, flow: Tensor, mask: Tensor | None, padding: str, align: bool
) -> tuple[Tensor, ...]:
    """Warped features and the gradients of all inputs, in fp64."""
    leaves = [t.double().requires_grad_() for t in (features, flow, mask) if t is not None]
    repeated = leaves[0].repeat_interleave(len(flow) // len(features), dim=0)
    warped = reference.warp(repeated, leaves[1], leaves[2] if mask is not None else None, padding, align)
    return warped.detach(), *torch.autograd.grad(warped, leaves, grad.double())


def assert_near(ours: Tensor, wanted: Tensor, dtype: torch.dtype, sums: int = 1) -> None:
    """Errors as `dtype` rounds, of the largest value; sums of n products lose sqrt(n) times as much."""
    scale = float(1 + wanted.abs().max()) if wanted.numel() else 1.0
    assert_close(ours.double(), wanted, atol=PRECISION[dtype] * scale * math.sqrt(sums), rtol=0)


@settings(max_examples=10, deadline=None)
@given(
    size=st.sampled_from([(1, 1), (1, 7), (5, 8), (11, 13), (16, 16)]),
    flow_size=st.sampled_from([None, (1, 1), (4, 3), (7, 1), (19, 5)]),
    mask_size=st.sampled_from([None, (1, 4), (6, 6), (20, 3)]),
    times=st.sampled_from([1, 3]),
    channels=st.sampled_from([1, 3, 9]),
    layout=st.sampled_from(["contiguous", "channels_last", "strided"]),
    padding=st.sampled_from(PADDINGS),
    align=st.booleans(),
    dtype=st.sampled_from(list(PRECISION)),
    deterministic=st.booleans(),
)
def test_equals_the_reference(
    size: tuple[int, int],
    flow_size: tuple[int, int] | None,
    mask_size: tuple[int, int] | None,
    times: int,
    channels: int,
    layout: str,
    padding: str,
    align: bool,
    dtype: torch.dtype,
    deterministic: bool,
) -> None:
    features, flow, mask = inputs(size, flow_size or size, mask_size, 2, times, channels, dtype)
    features, flow = laid_out(features, layout), laid_out(flow, "strided" if layout == "strided" else "contiguous")
    grad = laid_out(torch.randn(2 * times, channels, *size, dtype=torch.float64).to(dtype), layout)
    wanted, *wanted_grads = expected(grad, features, flow, mask, padding, align)

    warped = warp(features, flow, mask, padding, align)
    grads = warp_backward(grad, features, flow, mask, padding, align, True, True, mask is not None, deterministic)

    assert warped.dtype == dtype
    assert warped.is_contiguous(memory_format=torch.channels_last) or layout != "channels_last"
    assert warped.is_contiguous() or layout == "channels_last"
    assert_near(warped, wanted, dtype)
    for ours, wanted_grad, like in zip(grads, wanted_grads, (features, flow, mask), strict=False):
        assert ours.dtype == like.dtype
        assert ours.shape == like.shape
        # Positions of fp32 are off by up to 1e-7 of the image, and their gradient grows with its size.
        assert_near(ours, wanted_grad, like.dtype, sums=channels * 25)


@pytest.mark.parametrize(("layout", "channels"), [("contiguous", 70), ("channels_last", 260)])
def test_more_channels_than_one_program_takes(layout: str, channels: int) -> None:
    features, flow, mask = inputs((3, 4), (2, 2), (3, 3), batch=1, channels=channels)
    features = laid_out(features, layout)
    grad = torch.randn(1, channels, 3, 4, dtype=torch.float64)
    wanted = expected(grad, features, flow, mask, "zeros", True)
    grads = warp_backward(grad, features, flow, mask, "zeros", True, True, True, True, False)
    for ours, want in zip((warp(features, flow, mask, "zeros", True), *grads), wanted, strict=True):
        assert_near(ours, want, torch.float64, sums=channels)


@pytest.mark.parametrize(("padding", "align"), [("zeros", True), ("border", False), ("reflection", True)])
def test_gradients(padding: str, align: bool, differentiable: Callable) -> None:
    op = differentiable(
        lambda *tensors: warp(*tensors, padding, align),
        lambda grad, warped, *tensors: warp_backward(grad, *tensors, padding, align, True, True, True, False),
    )
    leaves = [t.requires_grad_() for t in inputs((3, 4), (2, 3), (2, 2), batch=1, times=2, channels=2)]
    assert torch.autograd.gradcheck(op, leaves, fast_mode=True)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("resized", [False, True])
def test_hostile_flows_read_outside_and_have_no_gradient(padding: str, resized: bool) -> None:
    # Ordered so that no two neighbours cancel when they are resized.
    hostile = torch.tensor([math.nan, 1e7, 1e30, 3e38, math.inf, math.nan, -math.inf, -2e9])
    flow = torch.zeros(1, 6, 8, 2)
    flow[0, 1, :, 0] = hostile
    flow[0, 3, :, 1] = hostile
    flow[0, 4] = 1e-42
    size = (12, 15) if resized else (6, 8)
    features = torch.randn(1, 2, *size)
    mask = torch.rand(1, 1, *size)
    warped = warp(features, flow, mask, padding, True)
    assert_near(warped, reference.warp(features, flow, mask, padding, True).double(), torch.float32)
    grads = warp_backward(torch.randn_like(warped), features, flow, mask, padding, True, True, True, True, False)
    assert all(grad.isfinite().all() for grad in grads)
    if not resized:
        assert not grads[1][0, 1, :, 0].any()
        assert not grads[1][0, 3, :, 1].any()
        assert padding != "zeros" or not warped[0, :, [1, 3]].any()


def test_gradients_that_are_not_needed_have_no_elements() -> None:
    features, flow, mask = inputs((4, 5), (2, 3), (4, 4))
    grad = torch.randn_like(features)
    wanted = expected(grad, features, flow, mask, "zeros", True)[1:]
    for needs in [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]:
        grads = warp_backward(grad, features, flow, mask, "zeros", True, *needs, False)
        for needed, ours, want in zip(needs, grads, wanted, strict=True):
            if needed:
                assert_near(ours, want, torch.float64)
            else:
                assert ours.shape == (0,)


@pytest.mark.parametrize("empty", ["batch", "times", "channels", "height"])
def test_empty(empty: str) -> None:
    batch, times, channels, height = (0 if name == empty else 2 for name in ("batch", "times", "channels", "height"))
    features = torch.randn(batch, channels, height, 3)
    flow, mask = torch.zeros(batch * times, 4, 4, 2), torch.ones(batch * times, 1, 2, 2)
    warped = warp(features, flow, mask, "zeros", True)
    assert warped.shape == (batch * times, channels, height, 3)
    grads = warp_backward(warped, features, flow, mask, "zeros", True, True, True, True, True)
    for grad, tensor in zip(grads, (features, flow, mask), strict=True):
        assert_close(grad, torch.zeros_like(tensor))


def test_maps_without_pixels_are_refused() -> None:
    features, flow, mask = inputs((4, 5), (4, 5), (0, 3))
    with pytest.raises(ValueError, match=r"warp: mask of 0x3 pixels cannot be resized"):
        warp(features, flow, mask, "zeros", True)


def shared_sums(order: list[int], scale: float, deterministic: bool) -> Tensor:
    """Gradient of features that many positions share, the samples taken in an order."""
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(8, 5, 5, 2, generator=generator) * 0.3
    grad = torch.randn(8, 2, 5, 5, generator=generator) * scale
    features = torch.zeros(1, 2, 5, 5)
    return warp_backward(grad[order], features, flow[order], None, "border", True, True, False, False, deterministic)[0]


def test_deterministic_sums_have_no_order() -> None:
    forwards, backwards = list(range(8)), list(range(7, -1, -1))
    assert torch.equal(shared_sums(forwards, 1.0, True), shared_sums(backwards, 1.0, True))
    assert not torch.equal(shared_sums(forwards, 1.0, False), shared_sums(backwards, 1.0, False))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-10, 1.0, 1e30])
def test_deterministic_sums_are_exact_at_every_scale(scale: float) -> None:
    order = list(range(8))
    exact, ours = shared_sums(order, 1.0, False) * scale, shared_sums(order, scale, True)
    assert_close(ours, exact, rtol=1e-5, atol=1e-6 * scale)


def test_a_deterministic_sum_of_infinities_is_not_a_number() -> None:
    assert shared_sums(list(range(8)), math.inf, True).isnan().all()
