"""Bilinear resizing with align_corners=True, read on the fly, and its adjoint.

Indices and weights are those of `torch.nn.functional.interpolate`.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._bilinear import interpolate, load_corners
from lami.kernels._launch import blocks, launchable

_BLOCK = 256


@triton.jit
def resize_scale(size, out_size, dtype: tl.constexpr):
    """Pixels of the input for one of the output, a scalar rounded as PyTorch rounds it; 0 for a single output."""
    steps = tl.full((), 0, dtype) + (size - 1)
    out_steps = tl.full((), 0, dtype) + tl.maximum(out_size - 1, 1)
    scale = tl.div_rn(steps, out_steps) if dtype == tl.float32 else steps / out_steps
    return tl.where(out_size > 1, scale, 0.0).to(dtype)


@triton.jit
def resize_taps(index, size, out_size, dtype: tl.constexpr):
    """Where pixel `index` of `out_size` reads, along one axis of `size` pixels.

    Returns:
        first: int32 index of the lower of two neighbouring pixels.
        share: weight of the upper one, `first + 1`.
        second_inside: bool, whether the upper one exists; its share is 0 where it does not.
    """
    position = index.to(dtype) * resize_scale(size, out_size, dtype)
    first = tl.minimum(position.to(tl.int32), size - 1)
    second_inside = first < size - 1
    return first, tl.where(second_inside, position - first, 0.0), second_inside


@triton.jit
def read_resized(
    plane,
    stride_y,
    stride_x,
    height,
    width,
    y,
    x,
    inside,
    out_height,
    out_width,
    RESIZE: tl.constexpr,
    dtype: tl.constexpr,
):
    """Pixels (y, x) of a plane of (height, width), resized to (out_height, out_width) if RESIZE; 0 where not `inside`.

    y, x: int32 blocks, within the resized plane where `inside`.
    """
    if RESIZE:
        top, y_share, has_bottom = resize_taps(y, height, out_height, dtype)
        left, x_share, has_right = resize_taps(x, width, out_width, dtype)
        corners = plane + top.to(tl.int64) * stride_y + left.to(tl.int64) * stride_x
        nw, ne, sw, se = load_corners(
            corners, stride_y, stride_x, inside, inside & has_right, inside, has_bottom, dtype
        )
        values = interpolate(nw, ne, sw, se, x_share, y_share)
    else:
        values = tl.load(plane + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x, mask=inside, other=0.0)
    return values.to(dtype)


@triton.jit
def _resize_adjoint_kernel(
    gradient, result, elements, inner, size, out_size, reach, DOUBLE: tl.constexpr, BLOCK: tl.constexpr
):
    """Each input pixel gathers the output pixels that read it: `reach` candidates, weighted as they read."""
    dtype: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    pixel = ((element // inner) % size).to(tl.int32)
    line = element // inner // size * out_size
    scale = resize_scale(size, out_size, dtype)
    # A rounding of the quotient may hide a pixel at either end of the window: it starts one early and ends one late.
    start = tl.where(scale > 0, (pixel - 1) / tl.where(scale > 0, scale, 1.0), 0.0)
    start = tl.maximum(start.to(tl.int32) - 1, 0)
    total = tl.zeros((BLOCK,), dtype)
    for step in range(reach):
        index = start + step
        first, share, _ = resize_taps(index, size, out_size, dtype)
        weight = tl.where(first == pixel, 1.0 - share, tl.where(first + 1 == pixel, share, 0.0))
        read = inside & (index < out_size) & (weight > 0)
        total += weight * tl.load(gradient + (line + index) * inner + element % inner, mask=read, other=0.0)
    tl.store(result + element, total, mask=inside)


def _adjoint_along(gradient: Tensor, axis: int, size: int, dtype: torch.dtype) -> Tensor:
    out_size = gradient.shape[axis]
    result = gradient.new_empty((*gradient.shape[:axis], size, *gradient.shape[axis + 1 :]), dtype=dtype)
    reach = out_size if size == 1 else min(out_size, (2 * (out_size - 1) + size - 2) // (size - 1) + 4)
    elements = result.numel()
    launchable(_resize_adjoint_kernel)[(blocks(elements, _BLOCK),)](
        gradient,
        result,
        elements,
        math.prod(gradient.shape[axis + 1 :]),
        size,
        out_size,
        reach,
        DOUBLE=gradient.dtype == torch.float64,
        BLOCK=_BLOCK,
    )
    return result


def resize_adjoint(gradient: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Gradient of maps before they were resized, from that after: (B, H, W, D) -> (B, height, width, D).

    Every pixel gathers, in a fixed order, so equal inputs give bitwise equal results.

    Args:
        gradient: contiguous, not empty, fp32 or fp64, in which the sums are kept.
        height, width: before the resize, at least 1.
        dtype: of the result.
    """
    if gradient.shape[1:3] == (height, width):
        return gradient.to(dtype)
    along_x = _adjoint_along(gradient, 2, width, gradient.dtype)
    return _adjoint_along(along_x, 1, height, dtype)
