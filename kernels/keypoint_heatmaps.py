"""Differences of Gaussians around keypoints: both Gaussians and the empty background channel in one launch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._tps import pixel_block, pixel_coordinate

_FORWARD_BLOCK = 512
_BACKWARD_BLOCK = 1024

# The variance is a constexpr because float arguments of compiled kernels have 24 bits, too few for fp64, and hardly
# ever vary.


@triton.jit
def gaussian(dx, dy, VARIANCE: tl.constexpr):
    """exp(-|d|^2 / (2 VARIANCE)) of blocks of differences."""
    return tl.exp((dx * dx + dy * dy) * tl.full((), -0.5 / VARIANCE, dx.dtype))


@triton.jit
def _forward_kernel(
    driving_ptr, source_ptr, out_ptr, points, height, width, per_plane, VARIANCE: tl.constexpr, BLOCK: tl.constexpr
):
    """One program writes a block of pixels of one channel; channel 0 is the background's."""
    dtype = driving_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    plane = program // per_plane
    channel = plane % (points + 1)
    row, column, inside = pixel_block(program % per_plane, height, width, BLOCK)
    difference = tl.zeros((BLOCK,), dtype)
    if channel > 0:
        point = 2 * (plane // (points + 1) * points + channel - 1)
        x = pixel_coordinate(column, width, dtype)
        y = pixel_coordinate(row, height, dtype)
        driving = gaussian(x - tl.load(driving_ptr + point), y - tl.load(driving_ptr + point + 1), VARIANCE)
        source = gaussian(x - tl.load(source_ptr + point), y - tl.load(source_ptr + point + 1), VARIANCE)
        difference = driving - source
    tl.store(out_ptr + (plane * height + row) * width + column, difference, mask=inside)


@triton.jit
def store_gaussian_gradient(x, y, grad, point_ptr, out_ptr, VARIANCE: tl.constexpr):
    """Sum over the block what `gaussian` around a point passes back to it, into (x, y).

    Pixels that do not count must have a gradient of zero.
    """
    dx = x - tl.load(point_ptr)
    dy = y - tl.load(point_ptr + 1)
    scaled = grad * gaussian(dx, dy, VARIANCE) * tl.full((), 1 / VARIANCE, x.dtype)
    tl.store(out_ptr, tl.sum(scaled * dx))
    tl.store(out_ptr + 1, tl.sum(scaled * dy))


@triton.jit
def _backward_kernel(
    grad_ptr,
    driving_ptr,
    source_ptr,
    out_ptr,
    stride_sample,
    stride_channel,
    stride_row,
    stride_column,
    points,
    height,
    width,
    per_plane,
    VARIANCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Partial sums (B * P, blocks, 4): x, y of the driving and of the source keypoint."""
    dtype = driving_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    point = program // per_plane
    row, column, inside = pixel_block(program % per_plane, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    grad_ptr += point // points * stride_sample + (point % points + 1) * stride_channel
    grad_ptr += row * stride_row + column.to(tl.int64) * stride_column
    grad = tl.load(grad_ptr, mask=inside, other=0.0).to(dtype)
    store_gaussian_gradient(x, y, grad, driving_ptr + 2 * point, out_ptr + 4 * program, VARIANCE)
    store_gaussian_gradient(x, y, -grad, source_ptr + 2 * point, out_ptr + 4 * program + 2, VARIANCE)


def keypoint_heatmaps(kp_driving: Tensor, kp_source: Tensor, height: int, width: int, variance: float) -> Tensor:
    """kp_driving and kp_source (B, P, 2) -> (B, P + 1, height, width) in the compute dtype, contiguous."""
    dtype = compute_dtype(kp_driving, kp_source)
    kp_driving, kp_source = kp_driving.to(dtype).contiguous(), kp_source.to(dtype).contiguous()
    samples, points = kp_driving.shape[:2]
    heatmaps = kp_driving.new_empty((samples, points + 1, height, width))
    if heatmaps.numel() > 0:
        per_plane = blocks(height * width, _FORWARD_BLOCK)
        launchable(_forward_kernel)[(samples * (points + 1) * per_plane,)](
            kp_driving,
            kp_source,
            heatmaps,
            points,
            height,
            width,
            per_plane,
            VARIANCE=variance,
            BLOCK=_FORWARD_BLOCK,
            num_warps=4,
        )
    return heatmaps


def keypoint_heatmaps_backward(
    grad: Tensor, kp_driving: Tensor, kp_source: Tensor, variance: float
) -> tuple[Tensor, Tensor]:
    """Gradients of both keypoints, each in its dtype, for grad (B, P + 1, h, w) of any strides."""
    dtype = compute_dtype(kp_driving, kp_source)
    samples, points = kp_driving.shape[:2]
    height, width = grad.shape[-2:]
    per_plane = blocks(height * width, _BACKWARD_BLOCK)
    partial = grad.new_empty((samples, points, per_plane, 4), dtype=dtype)
    if partial.numel() > 0:
        launchable(_backward_kernel)[(samples * points * per_plane,)](
            grad,
            kp_driving.to(dtype).contiguous(),
            kp_source.to(dtype).contiguous(),
            partial,
            *grad.stride(),
            points,
            height,
            width,
            per_plane,
            VARIANCE=variance,
            BLOCK=_BACKWARD_BLOCK,
            num_warps=4,
        )
    # Each part is summed by itself, because results of an op must not share memory.
    grad_driving, grad_source = (part.sum(2) for part in partial.split(2, dim=-1))
    return grad_driving.to(kp_driving.dtype), grad_source.to(kp_source.dtype)
