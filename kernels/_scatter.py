"""Adding many samples' gradients into the pixels that they were read from, by atomics.

Floating-point atomics round in the order in which they happen to arrive. The deterministic form adds 64-bit integers
instead, whose sum has no order: values are scaled so that no sum can overflow and truncated to integers. Its unit is
`largest |value| * terms / 2**62`, that is 2**-42 of the largest value for a million terms a pixel: finer than fp32
resolves, coarser than fp64; but at least 2**-126, the smallest normal fp32. It costs 8 bytes a pixel in place of 4, one
pass over the gradient for its maximum and one to convert, all on the device. A gradient that holds NaN or infinity
gives NaN everywhere.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lami.kernels._layout import zeros_like_layout

_CAPACITY = tl.constexpr(2.0**62)
_LARGEST_SCALE = 2.0**126


def scatter_buffer(like: Tensor, dtype: torch.dtype, deterministic: bool) -> Tensor:
    """Zeros of the shape and layout of `like` to add into: int64 if deterministic, else `dtype` (fp32 or fp64)."""
    return zeros_like_layout(like, torch.int64 if deterministic else dtype)


def fixed_point_scale(*factors: Tensor | None, terms: int, dtype: torch.dtype) -> Tensor:
    """What to multiply values by before they become integers; 0-d, fp32 or fp64, computed without a host sync.

    Args:
        factors: no value exceeds the product of these tensors' largest magnitudes; None is 1.
        terms: no pixel receives more than the weight of this many values.
        dtype: of the result.
    """
    bound = torch.ones((), dtype=dtype, device=next(factor.device for factor in factors if factor is not None))
    for factor in factors:
        if factor is not None:
            bound = bound * torch.linalg.vector_norm(factor, math.inf, dtype=dtype)
    # Half the capacity: a weighted value may exceed the bound by its rounding.
    return (_CAPACITY.value / 2 / max(terms, 1) / bound).clamp(max=_LARGEST_SCALE)


def gathered(buffer: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The sums in `buffer`, as `dtype`; `scale` is that of the deterministic form."""
    return (buffer if scale is None else buffer / scale).to(dtype)


@triton.jit
def scatter_add(pointers, values, inside, scale):
    """Add `values` at `pointers` where `inside`; `scale` is that of an int64 buffer, or None."""
    if scale is None:
        tl.atomic_add(pointers, values, mask=inside, sem="relaxed")
    else:
        fixed = values * scale
        fixed = tl.where(tl.abs(fixed) < _CAPACITY, fixed, 0.0)  # also drops NaN, which has no integer
        tl.atomic_add(pointers, fixed.to(tl.int64), mask=inside, sem="relaxed")


@triton.jit
def scatter_corners(pointers, stride_y, stride_x, left, right, top, bottom, x_share, y_share, gradient, scale_ptr):
    """Adjoint of `load_corners` and `interpolate`: add a sample's gradient into the 2 x 2 pixels it came from.

    scale_ptr: holds the scale of an int64 buffer; None for a floating-point one.
    """
    scale = scale_ptr if scale_ptr is None else tl.load(scale_ptr)
    scatter_add(pointers, gradient * ((1.0 - x_share) * (1.0 - y_share)), top & left, scale)
    scatter_add(pointers + stride_x, gradient * (x_share * (1.0 - y_share)), top & right, scale)
    scatter_add(pointers + stride_y, gradient * ((1.0 - x_share) * y_share), bottom & left, scale)
    scatter_add(pointers + stride_y + stride_x, gradient * (x_share * y_share), bottom & right, scale)
