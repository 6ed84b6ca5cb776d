"""Blend candidate motions and warp an image by the result."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_blend, check_resizable, check_shapes
from lami.ops._library import FusedOp, empty_like_features, features_gradient_like, given, gradient_like, register


def tps_warp(
    image: Tensor,
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None = None,
    keep: Tensor | None = None,
    dropout: str = "reference",
) -> tuple[Tensor, Tensor]:
    """`blend_flow`, then `warp` of an image, in one pass where the image has the size of the flow.

    Args:
        image: (B, C, H, W).
        logits, kp_driving, kp_source, background, keep, dropout: as for `blend_flow`.

    Returns:
        warped (B, C, H, W) in the dtype of `image`, and flow (B, h, w, 2), fp32 or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: as `blend_flow`, or logits without pixels for an image that has some.
    """
    bound = check_shapes(
        "tps_warp",
        image=(image, "B C H W"),
        logits=(logits, "B M h w"),
        kp_driving=(kp_driving, "B K N 2"),
        kp_source=(kp_source, "B K N 2"),
        background=(background, "B 3 3 or None"),
    )
    check_blend("tps_warp", bound, logits, keep, dropout)
    check_resizable("tps_warp", (bound["H"], bound["W"]), logits=(bound["h"], bound["w"]))
    backend = choose("tps_warp", image.device)
    if backend == "reference":
        return reference.tps_warp(image, logits, kp_driving, kp_source, background, keep, dropout)
    warped, flow = _OP(backend, image, logits, kp_driving, kp_source, background, keep, dropout == "corrected")
    return warped, flow


def _fake(
    image: Tensor,
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
) -> tuple[Tensor, Tensor]:
    dtype = reference.compute_dtype(image, logits, kp_driving, kp_source, background)
    b, _, h, w = logits.shape
    return empty_like_features(image, tuple(image.shape)), logits.new_empty((b, h, w, 2), dtype=dtype)


def _backward_fake(
    grad_warped: Tensor,
    grad_flow: Tensor,
    image: Tensor,
    logits: Tensor,
    flow: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
    needs_image: bool,
    needs_logits: bool,
    needs_keypoints: bool,
    needs_background: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        features_gradient_like(image, needs_image, grad_flow),
        features_gradient_like(logits, needs_logits, grad_flow),
        gradient_like(kp_driving, needs_keypoints, grad_flow),
        gradient_like(kp_source, needs_keypoints, grad_flow),
        gradient_like(background, needs_background, grad_flow),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    image, logits, kp_driving, kp_source, background, keep, ctx.corrected = inputs
    ctx.save_for_backward(image, logits, output[1], kp_driving, kp_source, background, keep)


def _gradient(ctx: Any, backward: Any, grad_warped: Tensor, grad_flow: Tensor) -> tuple[Tensor | None, ...]:
    image, logits, driving, source, background, _, _ = ctx.needs_input_grad
    needs = (image, logits, driving or source, background)
    grads = backward(grad_warped, grad_flow, *ctx.saved_tensors, ctx.corrected, *needs, ctx.deterministic)
    return *map(given, grads, ctx.needs_input_grad), None, None


_OP = register(FusedOp("tps_warp", _fake, _backward_fake, _save, _gradient))
