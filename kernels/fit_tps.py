"""The small linear systems of thin-plate splines: one program solves one system, in registers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._launch import compute_dtype, launchable
from lami.kernels._tps import radial, radial_slope

# Vectors over the N + 3 unknowns hold the weights, then one row of theta. The regularizer is a constexpr because float
# arguments of compiled kernels have 24 bits, too few for fp64, and hardly ever vary.


@triton.jit
def _load_unknowns(weights_ptr, theta_ptr, axis, N: tl.constexpr, ROWS: tl.constexpr):
    rows = tl.arange(0, ROWS)
    weights = tl.load(weights_ptr + 2 * rows + axis, mask=rows < N, other=0.0)
    theta = tl.load(theta_ptr + 3 * axis + rows - N, mask=(rows >= N) & (rows < N + 3), other=0.0)
    return tl.where(rows < N, weights, theta)


@triton.jit
def _store_unknowns(weights_ptr, theta_ptr, axis, unknowns, N: tl.constexpr, ROWS: tl.constexpr):
    rows = tl.arange(0, ROWS)
    tl.store(weights_ptr + 2 * rows + axis, unknowns, mask=rows < N)
    tl.store(theta_ptr + 3 * axis + rows - N, unknowns, mask=(rows >= N) & (rows < N + 3))


@triton.jit
def _system(x, y, N: tl.constexpr, ROWS: tl.constexpr, REGULARIZATION: tl.constexpr):
    """[[U, P], [P^T, 0]] + REGULARIZATION I of the control points (x, y), zero beyond N + 3."""
    rows = tl.arange(0, ROWS)
    dx = x[:, None] - x[None, :]
    dy = y[:, None] - y[None, :]
    i = rows[:, None]
    j = rows[None, :]
    # P^T lies where i and j change places in P.
    point_x = tl.where(i < j, x[:, None], x[None, :])
    point_y = tl.where(i < j, y[:, None], y[None, :])
    term = tl.maximum(i, j) - N
    affine = tl.where(term == 0, point_x, tl.where(term == 1, point_y, tl.where(term == 2, 1.0, 0.0)))
    system = tl.where(term < 0, radial(dx * dx + dy * dy), tl.where(tl.minimum(i, j) < N, affine, 0.0))
    return system + tl.where((i == j) & (i < N + 3), tl.full((), REGULARIZATION, x.dtype), 0.0)


@triton.jit
def _solve(system, first, second, UNKNOWNS: tl.constexpr, ROWS: tl.constexpr):
    """Solutions for two right-hand sides by Gauss-Jordan elimination; the system is indefinite, so it pivots by rows.

    Rows stay in place: each remembers the unknown that it was the pivot of.
    """
    rows = tl.arange(0, ROWS)
    free = rows < UNKNOWNS
    unknown = tl.full((ROWS,), UNKNOWNS, tl.int32)
    for k in range(UNKNOWNS):
        column = tl.sum(tl.where(rows[None, :] == k, system, 0.0), axis=1)
        # A NaN must not hide the free rows: every unknown gets a row, whatever the input.
        size = tl.where(column == column, tl.abs(column), float("inf"))
        chosen = rows == tl.argmax(tl.where(free, size, -1.0), axis=0)
        pivot = tl.sum(tl.where(chosen, column, 0.0))
        pivot_row = tl.sum(tl.where(chosen[:, None], system, 0.0), axis=0) / pivot
        pivot_first = tl.sum(tl.where(chosen, first, 0.0)) / pivot
        pivot_second = tl.sum(tl.where(chosen, second, 0.0)) / pivot
        system = tl.where(chosen[:, None], pivot_row[None, :], system - column[:, None] * pivot_row[None, :])
        first = tl.where(chosen, pivot_first, first - column * pivot_first)
        second = tl.where(chosen, pivot_second, second - column * pivot_second)
        free = free & (chosen == 0)
        unknown = tl.where(chosen, k, unknown)
    holds = unknown[:, None] == rows[None, :]
    first = tl.sum(tl.where(holds, first[:, None], 0.0), axis=0)
    second = tl.sum(tl.where(holds, second[:, None], 0.0), axis=0)
    return first, second


@triton.jit
def _forward_kernel(
    control_ptr,
    values_ptr,
    theta_ptr,
    weights_ptr,
    REGULARIZATION: tl.constexpr,
    N: tl.constexpr,
    ROWS: tl.constexpr,
):
    spline = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, ROWS)
    point = spline * 2 * N + 2 * rows
    x = tl.load(control_ptr + point, mask=rows < N, other=0.0)
    y = tl.load(control_ptr + point + 1, mask=rows < N, other=0.0)
    value_x = tl.load(values_ptr + point, mask=rows < N, other=0.0)
    value_y = tl.load(values_ptr + point + 1, mask=rows < N, other=0.0)
    first, second = _solve(_system(x, y, N, ROWS, REGULARIZATION), value_x, value_y, N + 3, ROWS)
    weights_ptr += spline * 2 * N
    theta_ptr += spline * 6
    _store_unknowns(weights_ptr, theta_ptr, 0, first, N, ROWS)
    _store_unknowns(weights_ptr, theta_ptr, 1, second, N, ROWS)


@triton.jit
def _backward_kernel(
    grad_theta_ptr,
    grad_weights_ptr,
    control_ptr,
    theta_ptr,
    weights_ptr,
    grad_control_ptr,
    grad_values_ptr,
    REGULARIZATION: tl.constexpr,
    N: tl.constexpr,
    ROWS: tl.constexpr,
):
    """For L u = b with symmetric L: grad_b = L^-1 grad_u and grad_L = -grad_b u^T, which goes on to the points in L."""
    spline = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, ROWS)
    point = spline * 2 * N + 2 * rows
    x = tl.load(control_ptr + point, mask=rows < N, other=0.0)
    y = tl.load(control_ptr + point + 1, mask=rows < N, other=0.0)
    weights_ptr += spline * 2 * N
    grad_weights_ptr += spline * 2 * N
    theta_ptr += spline * 6
    grad_theta_ptr += spline * 6
    adjoint_x, adjoint_y = _solve(
        _system(x, y, N, ROWS, REGULARIZATION),
        _load_unknowns(grad_weights_ptr, grad_theta_ptr, 0, N, ROWS),
        _load_unknowns(grad_weights_ptr, grad_theta_ptr, 1, N, ROWS),
        N + 3,
        ROWS,
    )
    tl.store(grad_values_ptr + point, adjoint_x, mask=rows < N)
    tl.store(grad_values_ptr + point + 1, adjoint_y, mask=rows < N)

    unknowns_x = _load_unknowns(weights_ptr, theta_ptr, 0, N, ROWS)
    unknowns_y = _load_unknowns(weights_ptr, theta_ptr, 1, N, ROWS)
    # Each point is in a row and in a column of L: grad_L + grad_L^T.
    grad_system = -(
        adjoint_x[:, None] * unknowns_x[None, :]
        + unknowns_x[:, None] * adjoint_x[None, :]
        + adjoint_y[:, None] * unknowns_y[None, :]
        + unknowns_y[:, None] * adjoint_y[None, :]
    )
    dx = x[:, None] - x[None, :]
    dy = y[:, None] - y[None, :]
    slope = 2 * radial_slope(dx * dx + dy * dy)
    j = rows[None, :]
    through_x = tl.where(j < N, slope * dx, tl.where(j == N, 1.0, 0.0))
    through_y = tl.where(j < N, slope * dy, tl.where(j == N + 1, 1.0, 0.0))
    tl.store(grad_control_ptr + point, tl.sum(grad_system * through_x, axis=1), mask=rows < N)
    tl.store(grad_control_ptr + point + 1, tl.sum(grad_system * through_y, axis=1), mask=rows < N)


def _constants(n: int, regularization: float) -> dict[str, float | int]:
    rows = 8 if n <= 5 else 16 if n <= 13 else 32  # a power of two, also where n is symbolic
    # One warp needs no barriers; 32 rows (N >= 14) need the registers of four.
    return {"REGULARIZATION": regularization, "N": int(n), "ROWS": rows, "num_warps": 1 if rows < 32 else 4}


def fit_tps(control_points: Tensor, values: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    """control_points and values (..., N, 2) -> theta (..., 2, 3), weights (..., N, 2), both in the compute dtype."""
    dtype = compute_dtype(control_points, values)
    control_points, values = control_points.to(dtype).contiguous(), values.to(dtype).contiguous()
    n = values.shape[-2]
    theta = values.new_empty((*values.shape[:-2], 2, 3))
    weights = values.new_empty(values.shape)
    if theta.numel() > 0:
        launchable(_forward_kernel)[(theta.numel() // 6,)](
            control_points, values, theta, weights, **_constants(n, regularization)
        )
    return theta, weights


def fit_tps_backward(
    grad_theta: Tensor,
    grad_weights: Tensor,
    control_points: Tensor,
    theta: Tensor,
    weights: Tensor,
    regularization: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of the control points, in their dtype, and of the values, in the compute dtype; both (..., N, 2)."""
    dtype = theta.dtype
    points = control_points.to(dtype).contiguous()
    grad_control = points.new_empty(points.shape)
    grad_values = points.new_empty(points.shape)
    if theta.numel() > 0:
        launchable(_backward_kernel)[(theta.numel() // 6,)](
            grad_theta.to(dtype).contiguous(),
            grad_weights.to(dtype).contiguous(),
            points,
            theta.contiguous(),
            weights.contiguous(),
            grad_control,
            grad_values,
            **_constants(points.shape[-2], regularization),
        )
    return grad_control.to(control_points.dtype), grad_values
