"""Input of the dense motion network: heatmaps of the keypoints, and the source warped by every candidate motion.

A program handles one motion (the background, or one spline) at a block of pixels of one sample, and writes what belongs
to it: its channels of warped source, and the heatmaps of its keypoints or, for the background, the zero channel.
Grids and warped sources are nowhere else in memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._bilinear import axis_taps, corner_slopes, load_corners, through_slope
from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._layout import empty_like_layout, is_channels_last
from lami.kernels._sampling import power_of_two
from lami.kernels._sampling_kernels import sample_channels
from lami.kernels._scatter import fixed_point_scale, gathered, scatter_buffer, scatter_corners
from lami.kernels._tps import (
    evaluate_spline,
    pixel_block,
    pixel_coordinate,
    store_background_gradient,
    store_spline_gradient,
    transform_background,
)
from lami.kernels.fit_tps import fit_tps, fit_tps_backward
from lami.kernels.keypoint_heatmaps import gaussian, store_gaussian_gradient

_REGULARIZATION = 0.01
_BACKWARD_BLOCK = {torch.float32: 256, torch.float64: 128}
"""As many pixels as registers allow, for each block ends in 6 + 8 N sums across its warps."""
_MOST_CHANNELS = 16
"""Channels of a pixel that are written together where they are neighbours in memory."""


@triton.jit
def _position(x, y, motion, spline, theta_ptr, weights_ptr, driving_ptr, background_ptr, N: tl.constexpr):
    """Where a motion takes the pixels (x, y): motion 0 by the matrix at `background_ptr`, None for nowhere."""
    if motion > 0:
        points = spline * 2 * N
        u, v = evaluate_spline(x, y, theta_ptr + spline * 6, weights_ptr + points, driving_ptr + points, N)
    elif background_ptr is None:
        u, v = x, y
    else:
        u, v = transform_background(x, y, background_ptr)
    return u, v


@triton.jit
def _forward_kernel(
    source_ptr,
    theta_ptr,
    weights_ptr,
    driving_ptr,
    points_ptr,
    background_ptr,
    out_ptr,
    source_sample,
    source_channel,
    source_row,
    source_column,
    out_sample,
    out_channel,
    out_pixel,
    height,
    width,
    channels,
    splines,
    times,
    blocks,
    VARIANCE: tl.constexpr,
    N: tl.constexpr,
    CHANNEL_AXIS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Strides are called after what they step over. Tiles of pixels and channels have the dense dimension last."""
    dtype = driving_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    motion = tl.program_id(1)
    sample = program // blocks
    block = program % blocks
    spline = sample * splines + motion - 1
    row, column, _ = pixel_block(block, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    if background_ptr is not None:
        background_ptr += sample * 9
    u, v = _position(x, y, motion, spline, theta_ptr, weights_ptr, driving_ptr, background_ptr, N)

    # Not from rows and columns, from which the compiler cannot see that the block is dense.
    pixel = tl.expand_dims(block * BLOCK + tl.arange(0, BLOCK), CHANNEL_AXIS)
    inside = pixel < tl.cast(height, tl.int64) * width
    out_ptr += sample * out_sample + pixel * out_pixel
    x = tl.expand_dims(x, CHANNEL_AXIS)
    y = tl.expand_dims(y, CHANNEL_AXIS)
    if motion == 0:
        tl.store(out_ptr, tl.zeros(inside.shape, out_ptr.dtype.element_ty), mask=inside)
    else:
        for first in range(0, N, BLOCK_N):
            point = tl.expand_dims(first + tl.arange(0, BLOCK_N), 1 - CHANNEL_AXIS)
            exists = point < N
            at = spline * 2 * N + 2 * point
            dx = x - tl.load(driving_ptr + at, mask=exists, other=0.0)
            dy = y - tl.load(driving_ptr + at + 1, mask=exists, other=0.0)
            heat = gaussian(dx, dy, VARIANCE)
            dx = x - tl.load(points_ptr + at, mask=exists, other=0.0)
            dy = y - tl.load(points_ptr + at + 1, mask=exists, other=0.0)
            heat -= gaussian(dx, dy, VARIANCE)
            channel = (1 + (motion - 1) * N + point).to(tl.int64)
            tl.store(out_ptr + channel * out_channel, heat, mask=inside & exists)
    first_channel = (1 + splines * N + motion * channels).to(tl.int64)
    sample_channels(
        source_ptr + sample // times * source_sample,
        source_channel,
        source_row,
        source_column,
        height,
        width,
        tl.expand_dims(u, CHANNEL_AXIS),
        tl.expand_dims(v, CHANNEL_AXIS),
        tl.full((), 1.0, dtype),
        inside,
        out_ptr + first_channel * out_channel,
        out_channel,
        0,
        channels,
        "zeros",
        True,
        CHANNEL_AXIS,
        BLOCK_C,
    )


@triton.jit
def _backward_kernel(
    grad_ptr,
    source_ptr,
    theta_ptr,
    weights_ptr,
    driving_ptr,
    points_ptr,
    background_ptr,
    grad_source_ptr,
    scale_ptr,
    spline_sums_ptr,
    background_sums_ptr,
    grad_sample,
    grad_channel,
    grad_row,
    grad_column,
    source_sample,
    source_channel,
    source_row,
    source_column,
    grad_source_sample,
    grad_source_channel,
    grad_source_row,
    grad_source_column,
    height,
    width,
    channels,
    splines,
    times,
    blocks,
    first_motion,
    VARIANCE: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What is None is not computed. Spline sums (samples, splines, blocks, 6 + 8 N): theta, weights, control points,
    and both keypoints of the heatmaps; background sums (samples, blocks, 9)."""
    dtype = driving_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    motion = first_motion + tl.program_id(1)
    sample = program // blocks
    block = program % blocks
    spline = sample * splines + motion - 1
    row, column, inside = pixel_block(block, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    if background_ptr is not None:
        background_ptr += sample * 9
    u, v = _position(x, y, motion, spline, theta_ptr, weights_ptr, driving_ptr, background_ptr, N)

    left, x_share, has_left, has_right, x_slope = axis_taps(u, width, "zeros", True)
    top, y_share, has_top, has_bottom, y_slope = axis_taps(v, height, "zeros", True)
    has_left &= inside
    has_right &= inside
    left = left.to(tl.int64)
    top = top.to(tl.int64)
    image = sample // times
    source_ptr += image * source_sample + top * source_row + left * source_column
    if grad_source_ptr is not None:
        grad_source_ptr += image * grad_source_sample + top * grad_source_row + left * grad_source_column
    grad_ptr += sample * grad_sample + row * grad_row + column.to(tl.int64) * grad_column
    grad_warped_ptr = grad_ptr + (1 + splines * N + motion * channels).to(tl.int64) * grad_channel
    grad_u = tl.zeros((BLOCK,), dtype)
    grad_v = tl.zeros((BLOCK,), dtype)
    for index in range(channels):
        channel = tl.cast(index, tl.int64)
        grad = tl.load(grad_warped_ptr + channel * grad_channel, mask=inside, other=0.0).to(dtype)
        if spline_sums_ptr is not None or background_sums_ptr is not None:
            corner = source_ptr + channel * source_channel
            nw, ne, sw, se = load_corners(
                corner, source_row, source_column, has_left, has_right, has_top, has_bottom, dtype
            )
            along_x, along_y = corner_slopes(nw, ne, sw, se, x_share, y_share)
            grad_u += grad * along_x
            grad_v += grad * along_y
        if grad_source_ptr is not None:
            scatter_corners(
                grad_source_ptr + channel * grad_source_channel,
                grad_source_row,
                grad_source_column,
                has_left,
                has_right,
                has_top,
                has_bottom,
                x_share,
                y_share,
                grad,
                scale_ptr,
            )
    grad_u = through_slope(grad_u, x_slope)
    grad_v = through_slope(grad_v, y_slope)

    if motion == 0:
        if background_sums_ptr is not None:
            store_background_gradient(x, y, grad_u, grad_v, background_ptr, background_sums_ptr + program * 9)
    else:
        if spline_sums_ptr is not None:
            spline_sums_ptr += (spline * blocks + block) * (6 + 8 * N)
            driving_ptr += spline * 2 * N
            points_ptr += spline * 2 * N
            weights_ptr += spline * 2 * N
            store_spline_gradient(x, y, grad_u, grad_v, weights_ptr, driving_ptr, spline_sums_ptr, N)
            heatmap_sums_ptr = spline_sums_ptr + 6 + 4 * N
            grad_heatmap_ptr = grad_ptr + (1 + (motion - 1) * N).to(tl.int64) * grad_channel
            for i in range(N):
                grad = tl.load(grad_heatmap_ptr, mask=inside, other=0.0).to(dtype)
                store_gaussian_gradient(x, y, grad, driving_ptr + 2 * i, heatmap_sums_ptr + 2 * i, VARIANCE)
                store_gaussian_gradient(x, y, -grad, points_ptr + 2 * i, heatmap_sums_ptr + 2 * N + 2 * i, VARIANCE)
                grad_heatmap_ptr += grad_channel


def motion_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, variance: float
) -> Tensor:
    """source (B, C, h, w), keypoints (B*T, K, N, 2), background (B*T, 3, 3) -> (B*T, K*N + 1 + (K+1)*C, h, w).

    Sample n reads source n // T. The result has the dtype of source and its layout.
    """
    dtype = compute_dtype(source, kp_driving, kp_source, background)
    driving, points = (keypoints.to(dtype).contiguous() for keypoints in (kp_driving, kp_source))
    matrix = None if background is None else background.to(dtype).contiguous()
    batch, channels, height, width = source.shape
    samples, splines = kp_driving.shape[:2]
    n = int(kp_driving.shape[2])
    shape = (samples, splines * n + 1 + (splines + 1) * channels, height, width)
    features = empty_like_layout(source, shape, source.dtype)
    if features.numel() == 0:
        return features
    theta, weights = fit_tps(driving, points, _REGULARIZATION)
    channels_last = is_channels_last(features)
    block = 128 if channels_last else 256
    per_sample = blocks(height * width, block)
    launchable(_forward_kernel)[(samples * per_sample, splines + 1)](
        source,
        theta,
        weights,
        driving,
        points,
        matrix,
        features,
        *source.stride(),
        *features.stride()[:2],
        features.stride(3),
        height,
        width,
        channels,
        splines,
        samples // batch,
        per_sample,
        VARIANCE=variance,
        N=n,
        CHANNEL_AXIS=1 if channels_last else 0,
        BLOCK_N=power_of_two(n, 16) if channels_last else 1,
        BLOCK_C=power_of_two(channels, _MOST_CHANNELS) if channels_last else 1,
        BLOCK=block,
        num_warps=4,
    )
    return features


def motion_features_backward(
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
    """Gradients of source (summed over T), kp_driving, kp_source and background, each in its dtype.

    What is not needed has shape (0,) and costs nothing. The gradient of source is a sum by atomics, in any order unless
    `deterministic` (see `lami.kernels._scatter` for the cost of that); the others are always summed in the same order.
    """
    dtype = compute_dtype(source, kp_driving, kp_source, background)
    driving, points = (keypoints.to(dtype).contiguous() for keypoints in (kp_driving, kp_source))
    matrix = None if background is None else background.to(dtype).contiguous()
    batch, channels, height, width = source.shape
    samples, splines = kp_driving.shape[:2]
    n = int(kp_driving.shape[2])
    pixels = height * width
    block = _BACKWARD_BLOCK[dtype]
    per_sample = blocks(pixels, block)

    theta, weights = fit_tps(driving, points, _REGULARIZATION)
    buffer = scatter_buffer(source, dtype, deterministic) if needs_source else None
    spline_sums = driving.new_empty((samples, splines, per_sample, 6 + 8 * n)) if needs_keypoints else None
    background_sums = None
    if needs_background and background is not None:
        background_sums = driving.new_empty((samples, per_sample, 9))
    first_motion = 1 if buffer is None and background_sums is None else 0
    last_motion = 0 if buffer is None and spline_sums is None else splines
    empty = samples * pixels == 0
    scale = None
    if needs_source and deterministic and source.numel() > 0 and not empty:
        terms = samples // batch * (splines + 1) * pixels
        scale = fixed_point_scale(grad[:, splines * n + 1 :], terms=terms, dtype=dtype)
    if not empty and last_motion >= first_motion:
        launchable(_backward_kernel)[(samples * per_sample, last_motion - first_motion + 1)](
            grad,
            source,
            theta,
            weights,
            driving,
            points,
            matrix,
            buffer,
            scale,
            spline_sums,
            background_sums,
            *grad.stride(),
            *source.stride(),
            *((0, 0, 0, 0) if buffer is None else buffer.stride()),
            height,
            width,
            channels,
            splines,
            samples // max(batch, 1),
            per_sample,
            first_motion,
            VARIANCE=variance,
            N=n,
            BLOCK=block,
            num_warps=4,
        )

    grad_source, grad_driving, grad_points, grad_background = (source.new_empty(0) for _ in range(4))
    if buffer is not None:
        grad_source = gathered(buffer, scale, source.dtype)
    if background is not None and background_sums is not None:
        grad_background = background_sums.sum(1).reshape(background.shape).to(background.dtype)
    if spline_sums is not None:
        sums = spline_sums.sum(2)
        of_theta = sums[..., :6].reshape(theta.shape)
        of_weights, of_control, of_driving, of_points = sums[..., 6:].unflatten(-1, (4, n, 2)).unbind(-3)
        fitted_control, fitted_points = fit_tps_backward(of_theta, of_weights, driving, theta, weights, _REGULARIZATION)
        grad_driving = (of_control + of_driving + fitted_control).to(kp_driving.dtype)
        grad_points = (of_points + fitted_points).to(kp_source.dtype)
    return grad_source, grad_driving, grad_points, grad_background
