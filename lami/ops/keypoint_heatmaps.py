"""Heatmaps of keypoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_shapes, check_size, check_variance
from lami.ops._library import FusedOp, gradient_like, register


def keypoint_heatmaps(kp_driving: Tensor, kp_source: Tensor, size: tuple[int, int], variance: float = 0.01) -> Tensor:
    """Difference of Gaussians around driving and source keypoints, behind a zero background channel (TPSMM).

    Args:
        kp_driving, kp_source: (B, P, 2).
        size: (h, w).
        variance: of the Gaussian, in squared normalised coordinates.

    Returns:
        (B, P + 1, h, w) with channel 0 zero and channel p + 1 = G(kp_driving_p) - G(kp_source_p),
        G(c) = exp(-|p - c|^2 / (2 variance)); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device or size, or a variance that is not positive.
    """
    check_shapes("keypoint_heatmaps", kp_driving=(kp_driving, "B P 2"), kp_source=(kp_source, "B P 2"))
    check_size("keypoint_heatmaps", size)
    check_variance("keypoint_heatmaps", variance)
    backend = choose("keypoint_heatmaps", kp_driving.device)
    if backend == "reference":
        return reference.keypoint_heatmaps(kp_driving, kp_source, size, variance)
    heatmaps: Tensor = _OP(backend, kp_driving, kp_source, *size, float(variance))
    return heatmaps


def _fake(kp_driving: Tensor, kp_source: Tensor, height: int, width: int, variance: float) -> Tensor:
    dtype = reference.compute_dtype(kp_driving, kp_source)
    return kp_driving.new_empty((kp_driving.shape[0], kp_driving.shape[1] + 1, height, width), dtype=dtype)


def _backward_fake(grad: Tensor, kp_driving: Tensor, kp_source: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    return gradient_like(kp_driving, True, grad), gradient_like(kp_source, True, grad)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *keypoints, _, _, ctx.variance = inputs
    ctx.save_for_backward(*keypoints)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *backward(grad, *ctx.saved_tensors, ctx.variance), None, None, None


_OP = register(FusedOp("keypoint_heatmaps", _fake, _backward_fake, _save, _gradient))
