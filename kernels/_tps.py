"""Device functions of thin-plate splines and of the background's map: values, and sums of their gradients.

Positions (x, y) are blocks of pixels in the compute dtype (fp32 or fp64); parameters of one spline or map are
contiguous arrays of that dtype: theta (2, 3), weights (N, 2), control points (N, 2), matrix (3, 3).
"""

from __future__ import annotations

import triton
import triton.language as tl

UNROLLED = tl.constexpr(16)
"""Loops over control points are unrolled this often: entirely for every spline that `fit_tps` can fit."""


@triton.jit
def radial(s):
    """U(s) = s ln(s + 1e-9), s the squared distance."""
    return s * tl.log(s + tl.full((), 1e-9, s.dtype))


@triton.jit
def radial_slope(s):
    """dU/ds."""
    shifted = s + tl.full((), 1e-9, s.dtype)
    return tl.log(shifted) + s / shifted


@triton.jit
def pixel_block(block, height, width, BLOCK: tl.constexpr):
    """Row (int64), column (int32) and validity of BLOCK consecutive pixels; invalid ones are put on the last row."""
    first = block.to(tl.int64) * BLOCK
    first_row = first // width
    # Only one 64-bit division a block: those of the pixels fit 32 bits.
    beyond = (first - first_row * width).to(tl.int32) + tl.arange(0, BLOCK)
    row = first_row + beyond // width
    return tl.minimum(row, height - 1), beyond % width, row < height


@triton.jit
def pixel_coordinate(index, count, dtype: tl.constexpr):
    """2 index / (count - 1) - 1, each step correctly rounded as in PyTorch; -1 for a side of one pixel."""
    numerator = index.to(dtype)
    denominator = tl.maximum(tl.cast(count, tl.int32) - 1, 1).to(dtype)
    if dtype == tl.float32:
        share = tl.div_rn(numerator, denominator)
    else:
        share = numerator / denominator
    return 2 * share - 1


@triton.jit
def evaluate_spline(x, y, theta_ptr, weights_ptr, control_ptr, N: tl.constexpr):
    """T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2), as (u, v)."""
    u = tl.load(theta_ptr) * x + tl.load(theta_ptr + 1) * y + tl.load(theta_ptr + 2)
    v = tl.load(theta_ptr + 3) * x + tl.load(theta_ptr + 4) * y + tl.load(theta_ptr + 5)
    for i in tl.range(N, loop_unroll_factor=min(N, UNROLLED)):
        dx = x - tl.load(control_ptr + 2 * i)
        dy = y - tl.load(control_ptr + 2 * i + 1)
        basis = radial(dx * dx + dy * dy)
        u += tl.load(weights_ptr + 2 * i) * basis
        v += tl.load(weights_ptr + 2 * i + 1) * basis
    return u, v


@triton.jit
def store_spline_gradient(x, y, grad_u, grad_v, weights_ptr, control_ptr, out_ptr, N: tl.constexpr):
    """Sum over the block what `evaluate_spline` passes back, into theta (2, 3), weights (N, 2), control points (N, 2).

    Pixels that do not count must have a gradient of zero.
    """
    tl.store(out_ptr, tl.sum(grad_u * x))
    tl.store(out_ptr + 1, tl.sum(grad_u * y))
    tl.store(out_ptr + 2, tl.sum(grad_u))
    tl.store(out_ptr + 3, tl.sum(grad_v * x))
    tl.store(out_ptr + 4, tl.sum(grad_v * y))
    tl.store(out_ptr + 5, tl.sum(grad_v))
    grad_weights_ptr = out_ptr + 6
    grad_control_ptr = grad_weights_ptr + 2 * N
    for i in tl.range(N, loop_unroll_factor=min(N, UNROLLED)):
        dx = x - tl.load(control_ptr + 2 * i)
        dy = y - tl.load(control_ptr + 2 * i + 1)
        s = dx * dx + dy * dy
        basis = radial(s)
        tl.store(grad_weights_ptr + 2 * i, tl.sum(grad_u * basis))
        tl.store(grad_weights_ptr + 2 * i + 1, tl.sum(grad_v * basis))
        grad_basis = grad_u * tl.load(weights_ptr + 2 * i) + grad_v * tl.load(weights_ptr + 2 * i + 1)
        grad_distance = -2 * grad_basis * radial_slope(s)
        tl.store(grad_control_ptr + 2 * i, tl.sum(grad_distance * dx))
        tl.store(grad_control_ptr + 2 * i + 1, tl.sum(grad_distance * dy))


@triton.jit
def transform_background(x, y, matrix_ptr):
    """The homogeneous map of [p; 1], divided by its third coordinate, as (u, v)."""
    u = tl.load(matrix_ptr) * x + tl.load(matrix_ptr + 1) * y + tl.load(matrix_ptr + 2)
    v = tl.load(matrix_ptr + 3) * x + tl.load(matrix_ptr + 4) * y + tl.load(matrix_ptr + 5)
    scale = tl.load(matrix_ptr + 6) * x + tl.load(matrix_ptr + 7) * y + tl.load(matrix_ptr + 8)
    return u / scale, v / scale


@triton.jit
def store_background_gradient(x, y, grad_u, grad_v, matrix_ptr, out_ptr):
    """Sum over the block what `transform_background` passes back, into a matrix (3, 3).

    Pixels that do not count must have a gradient of zero.
    """
    u, v = transform_background(x, y, matrix_ptr)
    scale = tl.load(matrix_ptr + 6) * x + tl.load(matrix_ptr + 7) * y + tl.load(matrix_ptr + 8)
    row_u = grad_u / scale
    row_v = grad_v / scale
    row_scale = -(row_u * u + row_v * v)
    tl.store(out_ptr, tl.sum(row_u * x))
    tl.store(out_ptr + 1, tl.sum(row_u * y))
    tl.store(out_ptr + 2, tl.sum(row_u))
    tl.store(out_ptr + 3, tl.sum(row_v * x))
    tl.store(out_ptr + 4, tl.sum(row_v * y))
    tl.store(out_ptr + 5, tl.sum(row_v))
    tl.store(out_ptr + 6, tl.sum(row_scale * x))
    tl.store(out_ptr + 7, tl.sum(row_scale * y))
    tl.store(out_ptr + 8, tl.sum(row_scale))


@triton.jit
def store_positions(out_ptr, pixel, u, v, mask):
    """Write (u, v) to the contiguous pairs number `pixel` (int64), both of a pair at once."""
    pair = tl.arange(0, 2)[None, :]
    tl.store(out_ptr + 2 * pixel[:, None] + pair, tl.join(u, v), mask=mask[:, None])
