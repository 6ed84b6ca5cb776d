"""Inputs of the dense motion network at several times at once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_shapes, check_splines, check_times, check_variance
from lami.ops._library import FusedOp, features_gradient_like, given, gradient_like, register
from lami.ops.motion_features import fused_motion_features


def anytime_motion_features(
    source: Tensor,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None = None,
    variance: float = 0.01,
) -> Tensor:
    """`motion_features` from the source to its keypoints at several times (Eq. 1 and 2); the source is read once.

    Args:
        source: (B, C, h, w).
        kp_source, kp_driving: (B, K, N, 2).
        times: (T,) or (B, T), strictly between 0 and 1.
        background: (B, T, 3, 3) maps from the coordinates at each time to the source's, or (B, 3, 3) for all times.
        variance: of the heatmaps.

    Returns:
        (B, T, K*N + 1 + (K + 1)*C, h, w).

    Raises:
        TypeError, ValueError: as `motion_features` and `anytime_keypoints`.
    """
    each_time = background is not None and background.ndim == 4
    bound = check_shapes(
        "anytime_motion_features",
        source=(source, "B C h w"),
        kp_source=(kp_source, "B K N 2"),
        kp_driving=(kp_driving, "B K N 2"),
        times=(times, "... T"),
        background=(background, f"B {'T ' if each_time else ''}3 3 or None"),
    )
    check_splines("anytime_motion_features", bound)
    check_variance("anytime_motion_features", variance)
    times = check_times("anytime_motion_features", times, bound["B"])
    if background is not None and not each_time:
        background = background[:, None].expand(-1, bound["T"], -1, -1)
    backend = choose("anytime_motion_features", source.device)
    if backend == "reference":
        return reference.anytime_motion_features(source, kp_source, kp_driving, times, background, variance)
    if backend == "native":
        features: Tensor = _OP(backend, source, kp_source, kp_driving, times, background, float(variance))
        return features
    kp_source = kp_source.to(reference.compute_dtype(source, kp_source, kp_driving, times, background))
    kp_times = reference.anytime_keypoints(kp_source, kp_driving, times)
    each = fused_motion_features(
        backend,
        source,
        kp_times.flatten(0, 1),
        kp_source[:, None].expand_as(kp_times).flatten(0, 1),
        None if background is None else background.flatten(0, 1),
        variance,
    )
    return each.unflatten(0, kp_times.shape[:2])


def _fake(
    source: Tensor,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None,
    variance: float,
) -> Tensor:
    b, k, n, _ = kp_source.shape
    _, c, h, w = source.shape
    return source.new_empty((b, times.shape[1], k * n + 1 + (k + 1) * c, h, w))


def _backward_fake(
    grad: Tensor,
    source: Tensor,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None,
    variance: float,
    needs_source: bool,
    needs_keypoints: bool,
    needs_times: bool,
    needs_background: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        features_gradient_like(source, needs_source, grad),
        gradient_like(kp_source, needs_keypoints, grad),
        gradient_like(kp_driving, needs_keypoints, grad),
        gradient_like(times, needs_times, grad),
        gradient_like(background, needs_background, grad),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.variance = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    source, kp_source, kp_driving, times, background, _ = ctx.needs_input_grad
    needs = (source, kp_source or kp_driving, times, background)
    grads = backward(grad, *ctx.saved_tensors, ctx.variance, *needs, ctx.deterministic)
    return *map(given, grads, ctx.needs_input_grad), None


_OP = register(FusedOp("anytime_motion_features", _fake, _backward_fake, _save, _gradient, in_triton=False))
