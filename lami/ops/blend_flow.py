"""Blend candidate motions into a flow."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_blend, check_shapes
from lami.ops._library import FusedOp, features_gradient_like, given, gradient_like, register


def blend_flow(
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None = None,
    keep: Tensor | None = None,
    dropout: str = "reference",
) -> tuple[Tensor, Tensor]:
    """Blend K + 1 candidate motions into one flow by their contribution maps (TPSMM, Eq. 9 and 10).

    Args:
        logits: (B, K + 1, h, w) contribution logits, background first.
        kp_driving, kp_source: (B, K, N, 2).
        background: (B, 3, 3) homogeneous map from driving to source coordinates; None is the identity.
        keep: (B, K + 1) bool, motions that survive contribution dropout; None keeps all with a plain softmax.
        dropout: how dropped motions leave the softmax. `reference`: e_k d_k / (sum_j e_j d_j + 1e-6) with the maximum
            over all motions subtracted first, as TPSMM, whose contributions vanish when a far winner is dropped.
            `corrected`: the softmax over the motions kept.

    Returns:
        flow (B, h, w, 2), a backward sampling grid, and contributions (B, K + 1, h, w); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, N outside 3..16, or an unknown `dropout`.
    """
    bound = check_shapes(
        "blend_flow",
        logits=(logits, "B M h w"),
        kp_driving=(kp_driving, "B K N 2"),
        kp_source=(kp_source, "B K N 2"),
        background=(background, "B 3 3 or None"),
    )
    check_blend("blend_flow", bound, logits, keep, dropout)
    backend = choose("blend_flow", logits.device)
    if backend == "reference":
        return reference.blend_flow(logits, kp_driving, kp_source, background, keep, dropout)
    flow, contributions = _OP(backend, logits, kp_driving, kp_source, background, keep, dropout == "corrected")
    return flow, contributions


def _fake(
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
) -> tuple[Tensor, Tensor]:
    dtype = reference.compute_dtype(logits, kp_driving, kp_source, background)
    b, _, h, w = logits.shape
    return logits.new_empty((b, h, w, 2), dtype=dtype), logits.new_empty(logits.shape, dtype=dtype)


def _backward_fake(
    grad_flow: Tensor,
    grad_contributions: Tensor,
    logits: Tensor,
    contributions: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
    needs_logits: bool,
    needs_keypoints: bool,
    needs_background: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        features_gradient_like(logits, needs_logits, grad_flow),
        gradient_like(kp_driving, needs_keypoints, grad_flow),
        gradient_like(kp_source, needs_keypoints, grad_flow),
        gradient_like(background, needs_background, grad_flow),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, kp_driving, kp_source, background, keep, ctx.corrected = inputs
    ctx.save_for_backward(logits, output[1], kp_driving, kp_source, background, keep)


def _gradient(ctx: Any, backward: Any, grad_flow: Tensor, grad_contributions: Tensor) -> tuple[Tensor | None, ...]:
    logits, driving, source, background, _, _ = ctx.needs_input_grad
    grads = backward(
        grad_flow, grad_contributions, *ctx.saved_tensors, ctx.corrected, logits, driving or source, background
    )
    return *map(given, grads, ctx.needs_input_grad), None, None


_OP = register(FusedOp("blend_flow", _fake, _backward_fake, _save, _gradient))
