"""Kernels of `blend_flow`: they evaluate the candidate motions, blend them, and take gradients apart again."""

from __future__ import annotations

import triton
import triton.language as tl

from lami.kernels._tps import (
    evaluate_spline,
    pixel_block,
    pixel_coordinate,
    store_background_gradient,
    store_positions,
    store_spline_gradient,
    transform_background,
)

# Motion 0 is the background's, motion k + 1 that of spline k. DROPOUT tells how a motion with keep = 0 leaves the
# softmax: "none" (there is no keep), "reference" or "corrected", as in `lami.ops.blend_flow`.


@triton.jit
def candidate_position(
    x, y, sample, motion, splines, background_ptr, theta_ptr, weights_ptr, control_ptr, N: tl.constexpr
):
    """Where one motion of a sample (int64) takes (x, y); without a background matrix it stays there."""
    if motion == 0:
        if background_ptr is None:
            u, v = x, y
        else:
            u, v = transform_background(x, y, background_ptr + sample * 9)
    else:
        spline = sample * splines + motion - 1
        parameters = spline * 2 * N
        u, v = evaluate_spline(x, y, theta_ptr + spline * 6, weights_ptr + parameters, control_ptr + parameters, N)
    return u, v


@triton.jit
def _load_logit(logit_ptr, keep_ptr, motion, stride_motion, inside, dtype: tl.constexpr, DROPOUT: tl.constexpr):
    logit = tl.load(logit_ptr + tl.cast(motion, tl.int64) * stride_motion, mask=inside, other=0.0).to(dtype)
    if DROPOUT == "corrected":
        logit = tl.where(tl.load(keep_ptr + motion) != 0, logit, float("-inf"))
    return logit


@triton.jit
def _largest_logit(logit_ptr, keep_ptr, motions, stride_motion, inside, dtype: tl.constexpr, DROPOUT: tl.constexpr):
    largest = _load_logit(logit_ptr, keep_ptr, 0, stride_motion, inside, dtype, DROPOUT)
    for motion in tl.range(1, motions, loop_unroll_factor=4):
        logit = _load_logit(logit_ptr, keep_ptr, motion, stride_motion, inside, dtype, DROPOUT)
        largest = tl.maximum(largest, logit)
    return largest


@triton.jit
def _share(logit_ptr, keep_ptr, motion, stride_motion, inside, largest, dtype: tl.constexpr, DROPOUT: tl.constexpr):
    """Contribution before its division by the sum over motions."""
    share = tl.exp(_load_logit(logit_ptr, keep_ptr, motion, stride_motion, inside, dtype, DROPOUT) - largest)
    if DROPOUT == "reference":
        share *= tl.load(keep_ptr + motion).to(dtype)
    return share


@triton.jit
def blended_position(
    x,
    y,
    inside,
    sample,
    splines,
    logit_ptr,
    stride_motion,
    contribution_ptr,
    contribution_stride,
    keep_ptr,
    background_ptr,
    theta_ptr,
    weights_ptr,
    control_ptr,
    N: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    """The flow (u, v) of a block of pixels at (x, y).

    `logit_ptr` and `contribution_ptr` are blocks of pointers to the pixels' values of motion 0; contributions are not
    stored where theirs is None. `sample` (int64) selects keep, background and splines.
    """
    dtype = control_ptr.dtype.element_ty
    motions = splines + 1
    if DROPOUT != "none":
        keep_ptr += sample * motions
    largest = _largest_logit(logit_ptr, keep_ptr, motions, stride_motion, inside, dtype, DROPOUT)
    total = tl.zeros_like(largest)
    for motion in tl.range(motions, loop_unroll_factor=4):
        total += _share(logit_ptr, keep_ptr, motion, stride_motion, inside, largest, dtype, DROPOUT)
    if DROPOUT == "reference":
        total += tl.full((), 1e-6, dtype)
    flow_u = tl.zeros_like(x)
    flow_v = tl.zeros_like(y)
    for motion in range(motions):
        share = _share(logit_ptr, keep_ptr, motion, stride_motion, inside, largest, dtype, DROPOUT)
        contribution = share / total
        if contribution_ptr is not None:
            offset = tl.cast(motion, tl.int64) * contribution_stride
            tl.store(contribution_ptr + offset, contribution, mask=inside)
        u, v = candidate_position(x, y, sample, motion, splines, background_ptr, theta_ptr, weights_ptr, control_ptr, N)
        flow_u += contribution * u
        flow_v += contribution * v
    return flow_u, flow_v


@triton.jit
def forward_kernel(
    logits_ptr,
    keep_ptr,
    background_ptr,
    theta_ptr,
    weights_ptr,
    control_ptr,
    flow_ptr,
    contributions_ptr,
    stride_sample,
    stride_motion,
    stride_row,
    stride_column,
    splines,
    height,
    width,
    per_sample,
    N: tl.constexpr,
    DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    sample = program // per_sample
    row, column, inside = pixel_block(program % per_sample, height, width, BLOCK)
    plane = tl.cast(height, tl.int64) * width
    pixel = row * width + column
    u, v = blended_position(
        pixel_coordinate(column, width, dtype),
        pixel_coordinate(row, height, dtype),
        inside,
        sample,
        splines,
        logits_ptr + sample * stride_sample + row * stride_row + column.to(tl.int64) * stride_column,
        stride_motion,
        contributions_ptr + sample * (splines + 1) * plane + pixel,
        plane,
        keep_ptr,
        background_ptr,
        theta_ptr,
        weights_ptr,
        control_ptr,
        N,
        DROPOUT,
    )
    store_positions(flow_ptr, sample * plane + pixel, u, v, inside)


@triton.jit
def logits_kernel(
    grad_flow_ptr,
    grad_contributions_ptr,
    logits_ptr,
    contributions_ptr,
    background_ptr,
    theta_ptr,
    weights_ptr,
    control_ptr,
    grad_logits_ptr,
    flow_sample,
    flow_row,
    flow_column,
    flow_axis,
    grad_sample,
    grad_motion,
    grad_row,
    grad_column,
    logits_sample,
    logits_motion,
    logits_row,
    logits_column,
    out_sample,
    out_motion,
    out_row,
    out_column,
    splines,
    height,
    width,
    per_sample,
    N: tl.constexpr,
    DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradient of the logits x: c_j (g_j - sum_k g_k c_k), with g the gradient of the contributions c."""
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    sample = program // per_sample
    row, column, inside = pixel_block(program % per_sample, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    plane = tl.cast(height, tl.int64) * width
    motions = splines + 1
    contributions_ptr += sample * motions * plane + row * width + column
    column = column.to(tl.int64)
    grad_flow_ptr += sample * flow_sample + row * flow_row + column * flow_column
    grad_contributions_ptr += sample * grad_sample + row * grad_row + column * grad_column
    grad_logits_ptr += sample * out_sample + row * out_row + column * out_column
    grad_u = tl.load(grad_flow_ptr, mask=inside, other=0.0).to(dtype)
    grad_v = tl.load(grad_flow_ptr + flow_axis, mask=inside, other=0.0).to(dtype)

    mean = tl.zeros_like(x)
    total = tl.zeros_like(x)
    for motion in range(motions):
        u, v = candidate_position(x, y, sample, motion, splines, background_ptr, theta_ptr, weights_ptr, control_ptr, N)
        k = tl.cast(motion, tl.int64)
        direct = tl.load(grad_contributions_ptr + k * grad_motion, mask=inside, other=0.0).to(dtype)
        contribution = tl.load(contributions_ptr + k * plane, mask=inside, other=0.0)
        mean += contribution * (direct + grad_u * u + grad_v * v)
        total += contribution

    if DROPOUT == "reference":
        # The largest of all logits, dropped or not, is subtracted from each: the 1e-6 in the sum gives it a gradient
        # of its own, shared by equals.
        logits_ptr += sample * logits_sample + row * logits_row + column * logits_column
        largest = _largest_logit(logits_ptr, None, motions, logits_motion, inside, dtype, DROPOUT)
        equals = tl.zeros_like(x)
        for motion in tl.range(motions, loop_unroll_factor=4):
            logit = _load_logit(logits_ptr, None, motion, logits_motion, inside, dtype, DROPOUT)
            equals += (logit == largest).to(dtype)
        grad_largest = (total - 1) * mean / equals

    # Positions are computed again rather than kept: K is not bounded, registers are.
    for motion in range(motions):
        u, v = candidate_position(x, y, sample, motion, splines, background_ptr, theta_ptr, weights_ptr, control_ptr, N)
        k = tl.cast(motion, tl.int64)
        direct = tl.load(grad_contributions_ptr + k * grad_motion, mask=inside, other=0.0).to(dtype)
        contribution = tl.load(contributions_ptr + k * plane, mask=inside, other=0.0)
        grad = contribution * (direct + grad_u * u + grad_v * v - mean)
        if DROPOUT == "reference":
            logit = _load_logit(logits_ptr, None, motion, logits_motion, inside, dtype, DROPOUT)
            grad += tl.where(logit == largest, grad_largest, 0.0)
        tl.store(grad_logits_ptr + k * out_motion, grad, mask=inside)


@triton.jit
def motion_kernel(
    grad_flow_ptr,
    contributions_ptr,
    background_ptr,
    weights_ptr,
    control_ptr,
    out_ptr,
    flow_sample,
    flow_row,
    flow_column,
    flow_axis,
    splines,
    first_motion,
    selected,
    height,
    width,
    per_motion,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Partial sums of the parameters' gradients of `selected` motions from the first one: (B * selected, blocks, _).

    Of the background's matrix if `background_ptr` is given, else of splines.
    """
    dtype = control_ptr.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    index = program // per_motion
    sample = index // selected
    motion = index % selected + first_motion
    row, column, inside = pixel_block(program % per_motion, height, width, BLOCK)
    x = pixel_coordinate(column, width, dtype)
    y = pixel_coordinate(row, height, dtype)
    plane = tl.cast(height, tl.int64) * width
    contributions_ptr += (sample * (splines + 1) + motion) * plane + row * width + column
    grad_flow_ptr += sample * flow_sample + row * flow_row + column.to(tl.int64) * flow_column
    contribution = tl.load(contributions_ptr, mask=inside, other=0.0)
    grad_u = contribution * tl.load(grad_flow_ptr, mask=inside, other=0.0).to(dtype)
    grad_v = contribution * tl.load(grad_flow_ptr + flow_axis, mask=inside, other=0.0).to(dtype)
    if background_ptr is not None:
        store_background_gradient(x, y, grad_u, grad_v, background_ptr + sample * 9, out_ptr + program * 9)
    else:
        parameters = index * 2 * N
        out_ptr += program * (6 + 4 * N)
        store_spline_gradient(x, y, grad_u, grad_v, weights_ptr + parameters, control_ptr + parameters, out_ptr, N)
