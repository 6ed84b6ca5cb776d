"""Fit thin-plate splines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_broadcast, check_shapes, check_splines
from lami.ops._library import FusedOp, gradient_like, register


def fit_tps(control_points: Tensor, values: Tensor, regularization: float = 0.01) -> tuple[Tensor, Tensor]:
    """Fit the thin-plate spline that maps each control point to its value (TPSMM, Eq. 2 to 4).

    Solves `(L + regularization I) [weights; theta^T] = [values; 0]` with L = [[U, P], [P^T, 0]],
    U_ij = U(|c_i - c_j|^2), P = [x, y, 1]. The regulariser acts on the whole matrix, the affine block included, as in
    TPSMM.

    Args:
        control_points: (..., N, 2) where the spline is read, 3 <= N <= 16.
        values: (..., N, 2) what it gives there.
        regularization: added to the diagonal.

    Returns:
        theta (..., 2, 3), the affine part with columns x, y, 1, and weights (..., N, 2); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or N outside 3..16.
    """
    bound = check_shapes("fit_tps", control_points=(control_points, "... N 2"), values=(values, "... N 2"))
    check_splines("fit_tps", bound)
    check_broadcast("fit_tps", control_points=control_points, values=values)
    backend = choose("fit_tps", control_points.device)
    if backend == "reference":
        return reference.fit_tps(control_points, values, regularization)
    if control_points.shape != values.shape:
        control_points, values = torch.broadcast_tensors(control_points, values)
    theta, weights = _OP(backend, control_points, values, float(regularization))
    return theta, weights


def _fake(control_points: Tensor, values: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    dtype = reference.compute_dtype(control_points, values)
    leading = control_points.shape[:-2]
    return (
        control_points.new_empty((*leading, 2, 3), dtype=dtype),
        control_points.new_empty((*leading, *control_points.shape[-2:]), dtype=dtype),
    )


def _backward_fake(
    grad_theta: Tensor,
    grad_weights: Tensor,
    control_points: Tensor,
    theta: Tensor,
    weights: Tensor,
    regularization: float,
) -> tuple[Tensor, Tensor]:
    return gradient_like(control_points, True, theta), gradient_like(weights, True, theta)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    control_points, values, ctx.regularization = inputs
    ctx.values_dtype = values.dtype
    ctx.save_for_backward(control_points, *output)


def _gradient(ctx: Any, backward: Any, grad_theta: Tensor, grad_weights: Tensor) -> tuple[Tensor | None, ...]:
    grad_control, grad_values = backward(grad_theta, grad_weights, *ctx.saved_tensors, ctx.regularization)
    return grad_control, grad_values.to(ctx.values_dtype), None


_OP = register(FusedOp("fit_tps", _fake, _backward_fake, _save, _gradient))
