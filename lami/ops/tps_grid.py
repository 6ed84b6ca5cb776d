"""Evaluate thin-plate splines on a grid or at points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_broadcast, check_shapes, check_size
from lami.ops._library import FusedOp, gradient_like, register


def tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, size: tuple[int, int]) -> Tensor:
    """Evaluate splines on a pixel grid: T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2).

    Args:
        theta: (..., 2, 3), weights: (..., N, 2), control_points: (..., N, 2), as given to and by `fit_tps`; any N.
        size: (h, w) of the grid.

    Returns:
        (..., h, w, 2) positions (x, y); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device or size.
    """
    check_shapes(
        "tps_grid", theta=(theta, "... 2 3"), weights=(weights, "... N 2"), control_points=(control_points, "... N 2")
    )
    check_broadcast("tps_grid", theta=theta, weights=weights, control_points=control_points)
    check_size("tps_grid", size)
    backend = choose("tps_grid", theta.device)
    if backend == "reference":
        return reference.tps_grid(theta, weights, control_points, size)
    leading = torch.broadcast_shapes(*(x.shape[:-2] for x in (theta, weights, control_points)))
    theta, weights, control_points = (x.expand(*leading, *x.shape[-2:]) for x in (theta, weights, control_points))
    grid: Tensor = _OP(backend, theta, weights, control_points, *size)
    return grid


def tps_points(theta: Tensor, weights: Tensor, control_points: Tensor, points: Tensor) -> Tensor:
    """Evaluate splines at any points, in plain PyTorch: T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2).

    Args:
        theta: (..., 2, 3), weights: (..., N, 2), control_points: (..., N, 2), as given to and by `fit_tps`.
        points: (..., P, 2); leading dimensions broadcast against those of the splines.

    Returns:
        (..., P, 2); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device.
    """
    check_shapes(
        "tps_points",
        theta=(theta, "... 2 3"),
        weights=(weights, "... N 2"),
        control_points=(control_points, "... N 2"),
        points=(points, "... P 2"),
    )
    check_broadcast("tps_points", theta=theta, weights=weights, control_points=control_points, points=points)
    return reference.tps_points(theta, weights, control_points, points)


def _fake(theta: Tensor, weights: Tensor, control_points: Tensor, height: int, width: int) -> Tensor:
    dtype = reference.compute_dtype(theta, weights, control_points)
    return theta.new_empty((*theta.shape[:-2], height, width, 2), dtype=dtype)


def _backward_fake(
    grad: Tensor, theta: Tensor, weights: Tensor, control_points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        gradient_like(theta, True, grad),
        gradient_like(weights, True, grad),
        gradient_like(control_points, True, grad),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *backward(grad, *ctx.saved_tensors), None, None


_OP = register(FusedOp("tps_grid", _fake, _backward_fake, _save, _gradient))
