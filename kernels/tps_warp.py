"""`blend_flow` and `warp` of an image: one kernel where the image has the size of the flow."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._blend_kernels import blended_position
from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._layout import empty_like_layout
from lami.kernels._sampling import channels_at_once, plane_strides
from lami.kernels._sampling_kernels import sample_channels
from lami.kernels._tps import pixel_block, pixel_coordinate, store_positions
from lami.kernels.blend_flow import REGULARIZATION, blend_flow, blend_flow_backward, dropout_name
from lami.kernels.fit_tps import fit_tps
from lami.kernels.warp import warp, warp_backward

_BLOCK = 128


@triton.jit
def _forward_kernel(
    image_ptr,
    logits_ptr,
    keep_ptr,
    background_ptr,
    theta_ptr,
    weights_ptr,
    control_ptr,
    warped_ptr,
    flow_ptr,
    image_sample,
    image_channel,
    image_row,
    image_column,
    logits_sample,
    logits_motion,
    logits_row,
    logits_column,
    warped_channel,
    warped_pixel,
    splines,
    channels,
    height,
    width,
    per_sample,
    N: tl.constexpr,
    DROPOUT: tl.constexpr,
    CHANNEL_AXIS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    sample = program // per_sample
    row, column, inside = pixel_block(program % per_sample, height, width, BLOCK)
    u, v = blended_position(
        pixel_coordinate(column, width, dtype),
        pixel_coordinate(row, height, dtype),
        inside,
        sample,
        splines,
        logits_ptr + sample * logits_sample + row * logits_row + column.to(tl.int64) * logits_column,
        logits_motion,
        None,
        0,
        keep_ptr,
        background_ptr,
        theta_ptr,
        weights_ptr,
        control_ptr,
        N,
        DROPOUT,
    )
    pixel = row * width + column
    plane = tl.cast(height, tl.int64) * width
    store_positions(flow_ptr, sample * plane + pixel, u, v, inside)
    u = tl.expand_dims(u, CHANNEL_AXIS)
    sample_channels(
        image_ptr + sample * image_sample,
        image_channel,
        image_row,
        image_column,
        height,
        width,
        u,
        tl.expand_dims(v, CHANNEL_AXIS),
        tl.full(u.shape, 1.0, dtype),
        tl.expand_dims(inside, CHANNEL_AXIS),
        warped_ptr + sample * channels * plane + tl.expand_dims(pixel, CHANNEL_AXIS) * warped_pixel,
        warped_channel,
        0,
        channels,
        "zeros",
        True,
        CHANNEL_AXIS,
        BLOCK_C,
    )


def tps_warp(
    image: Tensor,
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
) -> tuple[Tensor, Tensor]:
    """Warped (B, C, H, W) in the dtype of `image`, and flow (B, h, w, 2), contiguous and in the compute dtype.

    Args:
        image: (B, C, H, W), any strides.
        logits, kp_driving, kp_source, background, keep, corrected: as for `blend_flow`.
    """
    dtype = compute_dtype(image, logits, kp_driving, kp_source, background)
    kp_driving = kp_driving.to(dtype)  # brings the flow to the compute dtype
    if image.shape[2:] != logits.shape[2:] or image.numel() == 0:
        flow, _ = blend_flow(logits, kp_driving, kp_source, background, keep, corrected)
        return warp(image, flow, None, "zeros", True), flow
    samples, channels, height, width = image.shape
    warped = empty_like_layout(image, image.shape, image.dtype)
    flow = logits.new_empty((samples, height, width, 2), dtype=dtype)
    control_points = kp_driving.contiguous()
    theta, weights = fit_tps(control_points, kp_source.to(dtype), REGULARIZATION)
    per_sample = blocks(height * width, _BLOCK)
    axis, block_c = channels_at_once(image)
    launchable(_forward_kernel)[(samples * per_sample,)](
        image,
        logits,
        None if keep is None else keep.contiguous(),
        None if background is None else background.to(dtype).contiguous(),
        theta,
        weights,
        control_points,
        warped,
        flow,
        *image.stride(),
        *logits.stride(),
        *plane_strides(warped),
        kp_driving.shape[1],
        channels,
        height,
        width,
        per_sample,
        N=int(kp_driving.shape[2]),
        DROPOUT=dropout_name(keep, corrected),
        CHANNEL_AXIS=axis,
        BLOCK_C=block_c,
        BLOCK=_BLOCK,
        num_warps=_BLOCK // 32,
    )
    return warped, flow


def tps_warp_backward(
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
    """Gradients of image, logits, kp_driving, kp_source and background, each in its dtype; (0,) where not needed.

    Args:
        grad_warped, grad_flow: shaped as what `tps_warp` gives, any strides.
        flow: given by `tps_warp`; the contributions are computed again.
        deterministic: as for `warp_backward`, concerns the gradient of the image.
    """
    needs_flow = needs_logits or needs_keypoints or needs_background
    grad_image, through_warp, _ = warp_backward(
        grad_warped, image, flow, None, "zeros", True, needs_image, needs_flow, False, deterministic
    )
    if not needs_flow:
        grad_logits, grad_driving, grad_source, grad_background = (grad_flow.new_empty(0) for _ in range(4))
        return grad_image, grad_logits, grad_driving, grad_source, grad_background
    driving = kp_driving.to(flow.dtype)
    _, contributions = blend_flow(logits, driving, kp_source, background, keep, corrected)
    grad_logits, grad_driving, grad_source, grad_background = blend_flow_backward(
        grad_flow + through_warp,
        grad_flow.new_zeros(()).expand(contributions.shape),
        logits,
        contributions,
        driving,
        kp_source,
        background,
        keep,
        corrected,
        needs_logits,
        needs_keypoints,
        needs_background,
    )
    return grad_image, grad_logits, grad_driving.to(kp_driving.dtype), grad_source, grad_background
