"""The Triton heatmaps against the reference: values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.keypoint_heatmaps import keypoint_heatmaps, keypoint_heatmaps_backward
from lami.ops import reference


def keypoints(b: int, p: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Driving and source, (B, P, 2)."""
    generator = torch.Generator().manual_seed(b + p)
    driving, source = torch.rand(2, b, p, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    return driving.to(dtype), source.to(dtype)


@settings(max_examples=10)
@given(
    b=st.integers(1, 3),
    p=st.integers(1, 6),
    h=st.sampled_from([1, 2, 7, 23]),
    w=st.sampled_from([1, 3, 8, 53]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    variance=st.sampled_from([0.01, 0.1]),
)
def test_equals_the_reference(b: int, p: int, h: int, w: int, dtype: torch.dtype, variance: float) -> None:
    inputs = keypoints(b, p, dtype)
    leaves = tuple(t.double().requires_grad_() for t in inputs)
    wanted = reference.keypoint_heatmaps(*leaves, (h, w), variance)
    grad = torch.randn(h, w, b, p + 1, dtype=torch.float64).permute(2, 3, 0, 1)
    wanted_grads = torch.autograd.grad(wanted, leaves, grad)

    heatmaps = keypoint_heatmaps(*inputs, h, w, variance)
    assert heatmaps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert heatmaps.is_contiguous()
    assert_close(heatmaps.double(), wanted, atol=1e-12 if dtype == torch.float64 else 2e-6, rtol=0)
    precision = {torch.float64: 1e-11, torch.float32: 1e-4}.get(dtype, 1e-2)
    for got, want in zip(keypoint_heatmaps_backward(grad, *inputs, variance), wanted_grads, strict=True):
        assert got.dtype == dtype
        assert_close(got.double(), want, atol=precision, rtol=precision)


def test_gradients(differentiable: Callable) -> None:
    op = differentiable(
        lambda *inputs: keypoint_heatmaps(*inputs, 5, 4, 0.1),
        lambda grad, outputs, *inputs: keypoint_heatmaps_backward(grad, *inputs, 0.1),
    )
    assert torch.autograd.gradcheck(op, tuple(t.requires_grad_() for t in keypoints(2, 2)), fast_mode=True)


def test_gradients_of_one_keypoint_do_not_share_memory() -> None:
    driving, source = keypoint_heatmaps_backward(torch.randn(1, 2, 3, 3), *keypoints(1, 1), 0.01)
    assert driving.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()


def test_sums_over_many_blocks_are_the_same_in_every_run() -> None:
    inputs = keypoints(1, 2, torch.float32)
    grad = torch.randn(1, 3, 31, 37)
    first, second = (keypoint_heatmaps_backward(grad, *inputs, 0.01) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    leaves = tuple(t.double().requires_grad_() for t in inputs)
    wanted = torch.autograd.grad(reference.keypoint_heatmaps(*leaves, (31, 37)), leaves, grad.double())
    for got, want in zip(first, wanted, strict=True):
        assert_close(got.double(), want, atol=1e-4, rtol=1e-4)


def test_no_keypoints_leave_the_background() -> None:
    heatmaps = keypoint_heatmaps(*keypoints(2, 0), 3, 4, 0.01)
    assert_close(heatmaps, torch.zeros(2, 1, 3, 4, dtype=torch.float64), atol=0, rtol=0)


@pytest.mark.parametrize(("b", "h", "w"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty(b: int, h: int, w: int) -> None:
    inputs = keypoints(b, 2)
    heatmaps = keypoint_heatmaps(*inputs, h, w, 0.01)
    assert heatmaps.shape == (b, 3, h, w)
    for got, given_ in zip(keypoint_heatmaps_backward(heatmaps, *inputs, 0.01), inputs, strict=True):
        assert_close(got, torch.zeros_like(given_), atol=0, rtol=0)
