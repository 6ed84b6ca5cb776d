"""Warp a feature pyramid by the flows of several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_resizable, check_shapes
from lami.ops._library import FusedOp, empty_like_features, features_gradient_like, gradient_like, register
from lami.ops.warp import fused_warp


def anytime_warp(features: Sequence[Tensor], flow: Tensor, masks: Sequence[Tensor] | None = None) -> list[Tensor]:
    """`warp` each pyramid level by the flows of several times, the features of a sample shared by its times.

    Args:
        features: L tensors (B, C_l, H_l, W_l).
        flow: (B, T, h, w, 2).
        masks: L tensors (B, T, 1, H_l, W_l), or None.

    Returns:
        L tensors (B, T, C_l, H_l, W_l).

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or as many masks as features are not given.
    """
    if masks is not None and len(masks) != len(features):
        raise ValueError(f"anytime_warp: one mask for each of the {len(features)} levels is needed, got {len(masks)}")
    for level, level_features in enumerate(features):
        bound = check_shapes(
            "anytime_warp",
            features=(level_features, "B C H W"),
            flow=(flow, "B T h w 2"),
            **({} if masks is None else {"masks": (masks[level], "B T 1 _ _")}),
        )
        sizes = {"flow": (bound["h"], bound["w"])}
        if masks is not None:
            sizes["masks"] = (masks[level].shape[3], masks[level].shape[4])
        check_resizable("anytime_warp", (bound["H"], bound["W"]), **sizes)
    if not features:
        return []
    backend = choose("anytime_warp", flow.device)
    features, masks = list(features), list(masks or ())
    if backend == "reference":
        return reference.anytime_warp(features, flow, masks)
    if backend == "native":
        warped: list[Tensor] = _OP(backend, features, flow, masks)
        return warped
    flat = flow.flatten(0, 1)
    levels = []
    for level, level_features in enumerate(features):
        mask = masks[level].flatten(0, 1) if masks else None
        levels.append(fused_warp(backend, level_features, flat, mask, "zeros", True).unflatten(0, flow.shape[:2]))
    return levels


def _fake(features: list[Tensor], flow: Tensor, masks: list[Tensor]) -> list[Tensor]:
    b, t = flow.shape[:2]
    return [empty_like_features(level, (b * t, *level.shape[1:])).unflatten(0, (b, t)) for level in features]


def _backward_fake(
    grads: list[Tensor],
    features: list[Tensor],
    flow: Tensor,
    masks: list[Tensor],
    needs_features: bool,
    needs_flow: bool,
    needs_masks: bool,
    deterministic: bool,
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    return (
        [features_gradient_like(level, needs_features, flow) for level in features],
        gradient_like(flow, needs_flow, flow),
        [gradient_like(mask, needs_masks, flow) for mask in masks],
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    features, flow, masks = inputs
    ctx.levels = len(features)
    ctx.needs = tuple(any(tensor.requires_grad for tensor in group) for group in (features, [flow], masks))
    ctx.save_for_backward(*features, flow, *masks)


def _gradient(ctx: Any, backward: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    features, flow, masks = list(saved[: ctx.levels]), saved[ctx.levels], list(saved[ctx.levels + 1 :])
    grad_features, grad_flow, grad_masks = backward(grads, features, flow, masks, *ctx.needs, ctx.deterministic)
    return (
        grad_features if ctx.needs[0] else [None] * len(features),
        grad_flow if ctx.needs[1] else None,
        grad_masks if ctx.needs[2] else [None] * len(masks),
    )


_OP = register(FusedOp("anytime_warp", _fake, _backward_fake, _save, _gradient, in_triton=False))
