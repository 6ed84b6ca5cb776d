"""The kernels behind `warp` and `grid_sample`: read positions (and a mask), resize them on the fly, sample, multiply.

A program takes a block of output pixels and a chunk of channels. Where its pixels read is computed once, and then a
loop passes over the channels. Blocks of pixels have size 1 along CHANNEL_AXIS, so that they broadcast against blocks of
channels into tiles whose last dimension is dense in memory: pixels for NCHW (axis 0), channels for channels_last (1).
"""

from __future__ import annotations

import triton
import triton.language as tl

from lami.kernels._bilinear import axis_taps, corner_slopes, interpolate, load_corners, through_slope
from lami.kernels._resize import read_resized
from lami.kernels._scatter import scatter_corners
from lami.kernels._tps import pixel_block, store_positions


@triton.jit
def sample_channels(
    features,
    stride_c,
    stride_y,
    stride_x,
    height,
    width,
    u,
    v,
    factor,
    inside,
    output,
    output_c,
    first_channel,
    last_channel,
    PADDING: tl.constexpr,
    ALIGN_CORNERS: tl.constexpr,
    CHANNEL_AXIS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Sample channels first_channel..last_channel - 1 of one image at a block of pixels, and multiply.

    Args:
        features: pointer to the image of `height` x `width`.
        u, v, factor: where each pixel reads, and what its samples are multiplied by, in the compute dtype.
        inside: which pixels exist.
        output: where they go, pointers to channel 0; output_c: from one channel to the next.
    """
    left, x_share, has_left, has_right, _ = axis_taps(u, width, PADDING, ALIGN_CORNERS)
    top, y_share, has_top, has_bottom, _ = axis_taps(v, height, PADDING, ALIGN_CORNERS)
    corner = features + top.to(tl.int64) * stride_y + left.to(tl.int64) * stride_x
    for start in range(first_channel, last_channel, BLOCK_C):
        channel = tl.expand_dims(start + tl.arange(0, BLOCK_C), 1 - CHANNEL_AXIS)
        exists = inside & (channel < last_channel)
        channel = channel.to(tl.int64)
        nw, ne, sw, se = load_corners(
            corner + channel * stride_c,
            stride_y,
            stride_x,
            has_left & exists,
            has_right & exists,
            has_top,
            has_bottom,
            u.dtype,
        )
        sample = interpolate(nw, ne, sw, se, x_share, y_share) * factor
        tl.store(output + channel * output_c, sample, mask=exists)


@triton.jit
def _program(pixel_blocks, chunks):
    """Which sample (int64), chunk of channels and block of pixels this program takes."""
    program = tl.program_id(0)
    rest = program // pixel_blocks
    return (rest // chunks).to(tl.int64), rest % chunks, program % pixel_blocks


@triton.jit
def _read_maps(
    flow,
    mask,
    y,
    x,
    inside,
    flow_y,
    flow_x,
    flow_axis,
    mask_y,
    mask_x,
    out_height,
    out_width,
    flow_height,
    flow_width,
    mask_height,
    mask_width,
    RESIZE_FLOW: tl.constexpr,
    RESIZE_MASK: tl.constexpr,
    dtype: tl.constexpr,
):
    """Position (u, v) and mask of a block of output pixels; no mask is 1."""
    u = read_resized(
        flow, flow_y, flow_x, flow_height, flow_width, y, x, inside, out_height, out_width, RESIZE_FLOW, dtype
    )
    flow += flow_axis
    v = read_resized(
        flow, flow_y, flow_x, flow_height, flow_width, y, x, inside, out_height, out_width, RESIZE_FLOW, dtype
    )
    if mask is None:
        factor = tl.full(u.shape, 1.0, dtype)
    else:
        factor = read_resized(
            mask, mask_y, mask_x, mask_height, mask_width, y, x, inside, out_height, out_width, RESIZE_MASK, dtype
        )
    return u, v, factor


@triton.jit
def forward_kernel(
    features,
    flow,
    mask,
    output,
    features_n,
    features_c,
    features_y,
    features_x,
    flow_n,
    flow_y,
    flow_x,
    flow_axis,
    mask_n,
    mask_y,
    mask_x,
    output_c,
    output_pixel,
    times,
    channels,
    height,
    width,
    out_height,
    out_width,
    flow_height,
    flow_width,
    mask_height,
    mask_width,
    pixel_blocks,
    chunks,
    PADDING: tl.constexpr,
    ALIGN_CORNERS: tl.constexpr,
    RESIZE_FLOW: tl.constexpr,
    RESIZE_MASK: tl.constexpr,
    DOUBLE: tl.constexpr,
    CHANNEL_AXIS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    dtype: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    n, chunk, block = _program(pixel_blocks, chunks)
    y, x, inside = pixel_block(block, out_height, out_width, BLOCK_P)
    pixel = tl.expand_dims(y * out_width + x, CHANNEL_AXIS)
    inside = tl.expand_dims(inside, CHANNEL_AXIS)
    u, v, factor = _read_maps(
        flow + n * flow_n,
        mask if mask is None else mask + n * mask_n,
        tl.expand_dims(y, CHANNEL_AXIS),
        tl.expand_dims(x, CHANNEL_AXIS),
        inside,
        flow_y,
        flow_x,
        flow_axis,
        mask_y,
        mask_x,
        out_height,
        out_width,
        flow_height,
        flow_width,
        mask_height,
        mask_width,
        RESIZE_FLOW,
        RESIZE_MASK,
        dtype,
    )
    first_channel = chunk * CHUNK
    sample_channels(
        features + n // times * features_n,
        features_c,
        features_y,
        features_x,
        height,
        width,
        u,
        v,
        factor,
        inside,
        output + n * channels * out_height * out_width + pixel * output_pixel,
        output_c,
        first_channel,
        tl.minimum(first_channel + CHUNK, channels),
        PADDING,
        ALIGN_CORNERS,
        CHANNEL_AXIS,
        BLOCK_C,
    )


@triton.jit
def backward_kernel(
    grad,
    features,
    flow,
    mask,
    grad_features,
    grad_flow,
    grad_mask,
    scale_ptr,
    grad_n,
    grad_c,
    grad_y,
    grad_x,
    features_n,
    features_c,
    features_y,
    features_x,
    flow_n,
    flow_y,
    flow_x,
    flow_axis,
    mask_n,
    mask_y,
    mask_x,
    sum_c,
    sum_pixel,
    samples,
    times,
    channels,
    height,
    width,
    out_height,
    out_width,
    flow_height,
    flow_width,
    mask_height,
    mask_width,
    pixel_blocks,
    chunks,
    PADDING: tl.constexpr,
    ALIGN_CORNERS: tl.constexpr,
    RESIZE_FLOW: tl.constexpr,
    RESIZE_MASK: tl.constexpr,
    DOUBLE: tl.constexpr,
    CHANNEL_AXIS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Gradients that are None are not computed; those of flow and mask are at the output's size, one for each chunk."""
    dtype: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    n, chunk, block = _program(pixel_blocks, chunks)
    y, x, inside_line = pixel_block(block, out_height, out_width, BLOCK_P)
    y, x = tl.expand_dims(y, CHANNEL_AXIS), tl.expand_dims(x, CHANNEL_AXIS)
    inside = tl.expand_dims(inside_line, CHANNEL_AXIS)
    u, v, factor = _read_maps(
        flow + n * flow_n,
        mask if mask is None else mask + n * mask_n,
        y,
        x,
        inside,
        flow_y,
        flow_x,
        flow_axis,
        mask_y,
        mask_x,
        out_height,
        out_width,
        flow_height,
        flow_width,
        mask_height,
        mask_width,
        RESIZE_FLOW,
        RESIZE_MASK,
        dtype,
    )
    left, x_share, has_left, has_right, slope_x = axis_taps(u, width, PADDING, ALIGN_CORNERS)
    top, y_share, has_top, has_bottom, slope_y = axis_taps(v, height, PADDING, ALIGN_CORNERS)
    top, left = top.to(tl.int64), left.to(tl.int64)
    corner = features + n // times * features_n + top * features_y + left * features_x
    gradients = grad + n * grad_n + y.to(tl.int64) * grad_y + x.to(tl.int64) * grad_x
    tile: tl.constexpr = (BLOCK_P, BLOCK_C) if CHANNEL_AXIS == 1 else (BLOCK_C, BLOCK_P)
    sum_x = tl.zeros(tile, dtype)
    sum_y = tl.zeros(tile, dtype)
    sum_mask = tl.zeros(tile, dtype)
    first_channel = chunk * CHUNK
    last_channel = tl.minimum(first_channel + CHUNK, channels)
    for start in range(first_channel, last_channel, BLOCK_C):
        channel = tl.expand_dims(start + tl.arange(0, BLOCK_C), 1 - CHANNEL_AXIS)
        exists = inside & (channel < last_channel)
        channel = channel.to(tl.int64)
        gradient = tl.load(gradients + channel * grad_c, mask=exists, other=0.0).to(dtype)
        if grad_flow is not None or grad_mask is not None:
            nw, ne, sw, se = load_corners(
                corner + channel * features_c,
                features_y,
                features_x,
                has_left & exists,
                has_right & exists,
                has_top,
                has_bottom,
                dtype,
            )
            if grad_flow is not None:
                along_x, along_y = corner_slopes(nw, ne, sw, se, x_share, y_share)
                sum_x += gradient * along_x
                sum_y += gradient * along_y
            if grad_mask is not None:
                sum_mask += gradient * interpolate(nw, ne, sw, se, x_share, y_share)
        if grad_features is not None:
            image = grad_features + n // times * channels * height * width
            scatter_corners(
                image + (top * width + left) * sum_pixel + channel * sum_c,
                width * sum_pixel,
                sum_pixel,
                has_left & exists,
                has_right & exists,
                has_top,
                has_bottom,
                x_share,
                y_share,
                gradient * factor,
                scale_ptr,
            )
    pixel = (chunk * samples + n) * out_height * out_width + block.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    if grad_flow is not None:
        slope_x, slope_y = tl.reshape(slope_x * factor, (BLOCK_P,)), tl.reshape(slope_y * factor, (BLOCK_P,))
        grad_u = through_slope(tl.sum(sum_x, axis=CHANNEL_AXIS), slope_x)
        grad_v = through_slope(tl.sum(sum_y, axis=CHANNEL_AXIS), slope_y)
        store_positions(grad_flow, pixel, grad_u, grad_v, inside_line)
    if grad_mask is not None:
        tl.store(grad_mask + pixel, tl.sum(sum_mask, axis=CHANNEL_AXIS), mask=inside_line)
