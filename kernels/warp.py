"""Features sampled along a flow of any size and multiplied by a mask of any size, in one launch."""

from __future__ import annotations

from torch import Tensor

from lami.kernels._sampling import sample, sample_backward


def warp(features: Tensor, flow: Tensor, mask: Tensor | None, padding_mode: str, align_corners: bool) -> Tensor:
    """features (B, C, H, W), flow (B*T, h, w, 2), mask (B*T, 1, H', W') -> (B*T, C, H, W), dtype of features.

    Sample n reads features n // T. Flow and mask are resized bilinearly, with their corners aligned, to (H, W).
    """
    height, width = features.shape[2:]
    return sample("warp", features, flow, mask, (height, width), padding_mode, align_corners)


def warp_backward(
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
    """Gradients of features, flow and mask, each in its dtype; an empty one of shape (0,) where not needed.

    The gradient of features is a sum by atomics, in any order unless `deterministic` (see `lami.kernels._scatter` for
    the cost of that); those of flow and mask are always summed in the same order.
    """
    return sample_backward(
        "warp",
        grad,
        features,
        flow,
        mask,
        padding_mode,
        align_corners,
        needs_features,
        needs_flow,
        needs_mask,
        deterministic,
    )
