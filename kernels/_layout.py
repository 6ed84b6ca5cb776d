"""Memory layout of maps: results are channels_last where the features that they come from are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_channels_last(features: Tensor) -> bool:
    """Whether (B, C, H, W) is dense with the channels innermost; False where that is the contiguous layout too."""
    return (
        features.shape[1] > 1
        and features.is_contiguous(memory_format=torch.channels_last)
        and not features.is_contiguous()
    )


def empty_like_layout(features: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised (B, C, H, W) of another shape and dtype: channels_last if `features` is, else contiguous."""
    memory_format = torch.channels_last if is_channels_last(features) else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, device=features.device, memory_format=memory_format)


def zeros_like_layout(features: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros of the shape of `features`: channels_last if it is, else contiguous."""
    return empty_like_layout(features, features.shape, dtype).zero_()
