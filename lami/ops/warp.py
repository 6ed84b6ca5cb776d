"""Sample features along a flow."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_padding, check_resizable, check_shapes
from lami.ops._library import FusedOp, empty_like_features, features_gradient_like, given, gradient_like, register


def warp(
    features: Tensor,
    flow: Tensor,
    mask: Tensor | None = None,
    padding_mode: str = "zeros",
    align_corners: bool = True,
) -> Tensor:
    """Sample features along a flow of any size and multiply by a mask.

    Flow and mask are resized to the features' size (bilinear, align_corners), then
    `mask * grid_sample(features, flow)`. Flow values are normalised coordinates and need no rescaling; NaN, infinite
    and huge ones lie outside the image and have no gradient (a side of one pixel has no outside).

    Args:
        features: (B, C, H, W).
        flow: (B, h, w, 2).
        mask: (B, 1, H', W') or None.
        padding_mode, align_corners: as `torch.nn.functional.grid_sample`.

    Returns:
        (B, C, H, W) in the dtype of `features`, channels_last if the features are.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, an unknown padding mode, or a flow or mask without pixels.
    """
    bound = check_shapes("warp", features=(features, "B C H W"), flow=(flow, "B h w 2"), mask=(mask, "B 1 _ _ or None"))
    check_padding("warp", padding_mode)
    sizes = {"flow": (bound["h"], bound["w"])} | ({} if mask is None else {"mask": (mask.shape[2], mask.shape[3])})
    check_resizable("warp", (bound["H"], bound["W"]), **sizes)
    backend = choose("warp", features.device)
    if backend == "reference":
        return reference.warp(features, flow, mask, padding_mode, align_corners)
    return fused_warp(backend, features, flow, mask, padding_mode, align_corners)


def fused_warp(
    backend: str, features: Tensor, flow: Tensor, mask: Tensor | None, padding_mode: str, align_corners: bool
) -> Tensor:
    """As `warp`, for B * T flows and masks: sample n reads features n // T."""
    warped: Tensor = _OP(backend, features, flow, mask, padding_mode, align_corners)
    return warped


def _fake(features: Tensor, flow: Tensor, mask: Tensor | None, padding_mode: str, align_corners: bool) -> Tensor:
    return empty_like_features(features, (flow.shape[0], *features.shape[1:]))


def _backward_fake(
    grad: Tensor,
    features: Tensor,
    flow: Tensor,
    mask: Tensor | None,
    padding_mode: str,
    align_corners: bool,
    needs_features: bool,
    needs_flow: bool,
    needs_mask: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        features_gradient_like(features, needs_features, grad),
        gradient_like(flow, needs_flow, grad),
        gradient_like(mask, needs_mask, grad),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.padding_mode, ctx.align_corners = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    grads = backward(grad, *ctx.saved_tensors, ctx.padding_mode, ctx.align_corners, *needs, ctx.deterministic)
    return *map(given, grads, needs), None, None


_OP = register(FusedOp("warp", _fake, _backward_fake, _save, _gradient))
