"""The input of the dense motion network."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_shapes, check_splines, check_variance
from lami.ops._library import FusedOp, empty_like_features, features_gradient_like, given, gradient_like, register


def motion_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None, variance: float = 0.01
) -> Tensor:
    """Input of the dense motion network: heatmaps, then the source warped by each of the K + 1 candidate motions.

    Args:
        source: (B, C, h, w) image at the size of the flow.
        kp_driving, kp_source: (B, K, N, 2).
        background: (B, 3, 3) homogeneous map from driving to source coordinates; None is the identity.
        variance: of the heatmaps.

    Returns:
        (B, K*N + 1 + (K + 1)*C, h, w) in the dtype of `source`: heatmaps as `keypoint_heatmaps`, then the warped
        sources, background first, channels of one motion together.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or N outside 3..16.
    """
    bound = check_shapes(
        "motion_features",
        source=(source, "B C h w"),
        kp_driving=(kp_driving, "B K N 2"),
        kp_source=(kp_source, "B K N 2"),
        background=(background, "B 3 3 or None"),
    )
    check_splines("motion_features", bound)
    check_variance("motion_features", variance)
    backend = choose("motion_features", source.device)
    if backend == "reference":
        return reference.motion_features(source, kp_driving, kp_source, background, variance)
    return fused_motion_features(backend, source, kp_driving, kp_source, background, variance)


def fused_motion_features(
    backend: str, source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, variance: float
) -> Tensor:
    """As `motion_features`, for B * T samples of keypoints and background: sample n reads source n // T."""
    features: Tensor = _OP(backend, source, kp_driving, kp_source, background, float(variance))
    return features


def _fake(source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, variance: float) -> Tensor:
    samples, k, n, _ = kp_driving.shape
    _, c, h, w = source.shape
    return empty_like_features(source, (samples, k * n + 1 + (k + 1) * c, h, w))


def _backward_fake(
    grad: Tensor,
    source: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    variance: float,
    needs_source: bool,
    needs_keypoints: bool,
    needs_background: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        features_gradient_like(source, needs_source, grad),
        gradient_like(kp_driving, needs_keypoints, grad),
        gradient_like(kp_source, needs_keypoints, grad),
        gradient_like(background, needs_background, grad),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.variance = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    source, driving, kp_source, background, _ = ctx.needs_input_grad
    grads = backward(
        grad, *ctx.saved_tensors, ctx.variance, source, driving or kp_source, background, ctx.deterministic
    )
    return *map(given, grads, ctx.needs_input_grad), None


_OP = register(FusedOp("motion_features", _fake, _backward_fake, _save, _gradient))
