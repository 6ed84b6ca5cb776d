"""The Triton grid_sample against PyTorch's: all paddings, sizes, layouts, and the kinks of bilinear sampling."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.grid_sample import grid_sample, grid_sample_backward

PADDINGS = ("zeros", "border", "reflection")


def expected(grad: Tensor, image: Tensor, grid: Tensor, padding: str, align: bool) -> tuple[Tensor, ...]:
    """Sample and the gradients of image and grid, by PyTorch in the precision of the inputs."""
    leaves = tuple(t.detach().requires_grad_() for t in (image, grid))
    sample = F.grid_sample(*leaves, padding_mode=padding, align_corners=align)
    return sample.detach(), *torch.autograd.grad(sample, leaves, grad)


def computed(
    grad: Tensor, image: Tensor, grid: Tensor, padding: str, align: bool, deterministic: bool = False
) -> tuple[Tensor, ...]:
    grads = grid_sample_backward(grad, image, grid, padding, align, True, True, deterministic)
    return grid_sample(image, grid, padding, align), *grads


@settings(max_examples=15, deadline=None)
@given(
    batch=st.sampled_from([1, 3]),
    channels=st.sampled_from([1, 3, 9]),
    size=st.sampled_from([(1, 1), (1, 6), (7, 1), (5, 8), (17, 12)]),
    out_size=st.sampled_from([(1, 1), (3, 1), (4, 7), (13, 11)]),
    channels_last=st.booleans(),
    padding=st.sampled_from(PADDINGS),
    align=st.booleans(),
    deterministic=st.booleans(),
)
def test_equals_pytorch(
    batch: int,
    channels: int,
    size: tuple[int, int],
    out_size: tuple[int, int],
    channels_last: bool,
    padding: str,
    align: bool,
    deterministic: bool,
) -> None:
    image = torch.randn(batch, channels, *size, dtype=torch.float64)
    if channels_last:
        image = image.to(memory_format=torch.channels_last)
    # As a network gives it: both axes in front.
    grid = 1.2 * torch.randn(batch, 2, *out_size, dtype=torch.float64).movedim(1, -1)
    grad = torch.randn(batch, channels, *out_size, dtype=torch.float64)
    wanted = expected(grad, image, grid, padding, align)
    got = computed(grad, image, grid, padding, align, deterministic)
    for ours, want in zip(got, wanted, strict=True):
        assert_close(ours, want, atol=1e-11, rtol=1e-11)
    assert got[1].stride() == image.stride() or 1 in (*size, channels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("align", [True, False])
def test_kinks(dtype: torch.dtype, padding: str, align: bool) -> None:
    """Pixel centres, edges and mirrors: there too PyTorch's value, and its choice among the one-sided derivatives."""
    side = 5
    image = torch.randn(1, 2, side, side, dtype=dtype)
    steps = torch.arange(-2 * side, 3 * side + 1, dtype=dtype) / 2  # half pixels, far enough to be mirrored twice
    positions = 2 * steps / (side - 1) - 1 if align else (2 * steps + 1) / side - 1
    grid = torch.stack(torch.meshgrid(positions, positions, indexing="xy"), dim=-1)[None]
    grad = torch.randn(1, 2, len(positions), len(positions), dtype=dtype)
    if not align:
        # Divided by 5, not all of these positions are on a kink exactly: leave those that rounding puts beside one.
        exact = ((grid + 1) * side - 1) / 2 * 2
        grid = torch.where(exact == exact.round(), grid, grid + 0.01)
    got, wanted = computed(grad, image, grid, padding, align), expected(grad, image, grid, padding, align)
    for ours, want in zip(got, wanted, strict=True):
        assert_close(ours, want, atol=1e-4 if dtype == torch.float32 else 1e-12, rtol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients(padding: str, differentiable: Callable) -> None:
    op = differentiable(
        lambda *tensors: grid_sample(*tensors, padding, False),
        lambda grad, sample, *tensors: grid_sample_backward(grad, *tensors, padding, False, True, True, True),
    )
    image = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    grid = (1.5 * torch.rand(1, 2, 3, 2, dtype=torch.float64) - 0.7).requires_grad_()
    # The deterministic sums have a resolution of 1e-12 here.
    assert torch.autograd.gradcheck(op, (image, grid), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [3, 16])
def test_low_precision_images_are_sampled_in_fp32(dtype: torch.dtype, channels: int) -> None:
    image = torch.randn(2, channels, 6, 7).to(dtype).to(memory_format=torch.channels_last)
    grid = torch.rand(2, 5, 4, 2) * 2.4 - 1.2
    grad = torch.randn(2, channels, 5, 4).to(dtype)
    got = computed(grad, image, grid, "zeros", False)
    wanted = expected(grad.float(), image.float(), grid, "zeros", False)
    assert_close(got[0], wanted[0].to(dtype))
    assert_close(got[1], wanted[1].to(dtype))
    assert got[2].dtype == torch.float32
    assert_close(got[2], wanted[2], atol=1e-4, rtol=1e-4)


def test_an_image_without_pixels_is_padding() -> None:
    image, grid = torch.randn(2, 3, 0, 4), torch.zeros(2, 3, 5, 2)
    sample = grid_sample(image, grid, "border", False)
    assert_close(sample, torch.zeros(2, 3, 3, 5))
    grads = grid_sample_backward(torch.ones_like(sample), image, grid, "border", False, True, True, False)
    assert_close(grads, (torch.zeros_like(image), torch.zeros_like(grid)))


def test_a_grid_without_positions_gives_no_samples() -> None:
    image, grid = torch.randn(2, 3, 4, 4), torch.zeros(2, 0, 5, 2)
    sample = grid_sample(image, grid, "zeros", True)
    assert sample.shape == (2, 3, 0, 5)
    grads = grid_sample_backward(sample, image, grid, "zeros", True, True, True, False)
    assert_close(grads, (torch.zeros_like(image), torch.zeros_like(grid)))
