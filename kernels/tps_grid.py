"""Splines evaluated on a pixel grid, without the tensor of distances to the control points."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._tps import evaluate_spline, pixel_block, pixel_coordinate, store_positions, store_spline_gradient

_FORWARD_BLOCK = 128
_BACKWARD_BLOCK = 256
"""Taken by one warp, whose 6 + 4 N sums need no barriers."""


@triton.jit
def _forward_kernel(
    theta_ptr, weights_ptr, control_ptr, out_ptr, height, width, per_spline, N: tl.constexpr, BLOCK: tl.constexpr
):
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    spline = program // per_spline
    row, column, inside = pixel_block(program % per_spline, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    u, v = evaluate_spline(x, y, theta_ptr + spline * 6, weights_ptr + spline * 2 * N, control_ptr + spline * 2 * N, N)
    store_positions(out_ptr, (spline * height + row) * width + column, u, v, inside)


@triton.jit
def _backward_kernel(
    grad_ptr,
    weights_ptr,
    control_ptr,
    out_ptr,
    stride_spline,
    stride_row,
    stride_column,
    stride_axis,
    height,
    width,
    per_spline,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Partial sums (splines, blocks, 6 + 4 N)."""
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    spline = program // per_spline
    row, column, inside = pixel_block(program % per_spline, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    grad_ptr += spline * stride_spline + row * stride_row + column.to(tl.int64) * stride_column
    grad_u = tl.load(grad_ptr, mask=inside, other=0.0).to(dtype)
    grad_v = tl.load(grad_ptr + stride_axis, mask=inside, other=0.0).to(dtype)
    parameters = spline * 2 * N
    store_spline_gradient(
        x, y, grad_u, grad_v, weights_ptr + parameters, control_ptr + parameters, out_ptr + program * (6 + 4 * N), N
    )


def tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, height: int, width: int) -> Tensor:
    """theta (..., 2, 3), weights and control_points (..., N, 2) -> (..., height, width, 2) in the compute dtype."""
    dtype = compute_dtype(theta, weights, control_points)
    theta, weights, control_points = (t.to(dtype).contiguous() for t in (theta, weights, control_points))
    grid = theta.new_empty((*theta.shape[:-2], height, width, 2))
    if grid.numel() == 0:
        return grid
    per_spline = blocks(height * width, _FORWARD_BLOCK)
    launchable(_forward_kernel)[(per_spline * (theta.numel() // 6),)](
        theta,
        weights,
        control_points,
        grid,
        height,
        width,
        per_spline,
        N=int(weights.shape[-2]),
        BLOCK=_FORWARD_BLOCK,
        num_warps=4,
    )
    return grid


def tps_grid_backward(
    grad: Tensor, theta: Tensor, weights: Tensor, control_points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of theta, weights and control points, each in its dtype, for grad (..., h, w, 2) of any strides."""
    dtype = compute_dtype(theta, weights, control_points)
    height, width = grad.shape[-3:-1]
    n = int(weights.shape[-2])
    contiguous_weights, contiguous_points = (t.to(dtype).contiguous() for t in (weights, control_points))
    splines = theta.numel() // 6
    flat = grad.reshape(splines, height, width, 2)
    per_spline = blocks(height * width, _BACKWARD_BLOCK)
    partial = flat.new_empty((splines, per_spline, 6 + 4 * n), dtype=dtype)
    if partial.numel() > 0:
        launchable(_backward_kernel)[(splines * per_spline,)](
            flat,
            contiguous_weights,
            contiguous_points,
            partial,
            *flat.stride(),
            height,
            width,
            per_spline,
            N=n,
            BLOCK=_BACKWARD_BLOCK,
            num_warps=1,
        )
    # Each part is summed by itself, because results of an op must not share memory.
    grad_theta, grad_weights, grad_points = (part.sum(1) for part in partial.split((6, 2 * n, 2 * n), dim=-1))
    return (
        grad_theta.reshape(theta.shape).to(theta.dtype),
        grad_weights.reshape(weights.shape).to(weights.dtype),
        grad_points.reshape(control_points.shape).to(control_points.dtype),
    )
