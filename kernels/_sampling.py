"""Launches the kernels behind `warp` and `grid_sample`, and adds up what they leave in parts."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._layout import empty_like_layout, is_channels_last, zeros_like_layout
from lami.kernels._resize import resize_adjoint
from lami.kernels._sampling_kernels import backward_kernel, forward_kernel
from lami.kernels._scatter import fixed_point_scale, gathered, scatter_buffer

_THREADS = 128
_MANY_CHANNELS = 8
"""Fewer channels of a pixel do not fill the 32 bytes that memory gives at once."""


def power_of_two(least: int, most: int) -> int:
    """The smallest power of two of at least `least`, or `most`: an int also where `least` is symbolic."""
    power = 1
    while power < most and power < least:
        power *= 2
    return power


def channels_at_once(features: Tensor) -> tuple[int, int]:
    """CHANNEL_AXIS and BLOCK_C for tiles in which a thread takes one pixel."""
    if not is_channels_last(features):
        return 0, power_of_two(features.shape[1], 4)
    # Too few channels to occupy neighbouring threads: one after the other, and neighbouring threads take pixels.
    return (1, 4) if features.shape[1] >= _MANY_CHANNELS else (0, 1)


class Tile(NamedTuple):
    """What a program takes: `pixels` of the output, and `chunk` channels of them, `channels` at a time."""

    channel_axis: int
    channels: int
    pixels: int
    chunk: int

    @classmethod
    def of(cls, features: Tensor, most_per_thread: int) -> Tile:
        """Chosen by the layout of `features`; `most_per_thread` bounds the registers that a tile takes."""
        axis, channels = channels_at_once(features)
        if axis == 1:
            # A thread reads 16 bytes of neighbouring channels at once, a few threads all channels of a pixel.
            elements = _THREADS * min(16 // features.element_size(), most_per_thread)
            channels = power_of_two(features.shape[1], 64)
            return cls(axis, channels, elements // channels, 256)
        return cls(axis, channels, _THREADS, 64)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "CHANNEL_AXIS": self.channel_axis,
            "CHUNK": self.chunk,
            "BLOCK_C": self.channels,
            "BLOCK_P": self.pixels,
            "num_warps": _THREADS // 32,
        }


def plane_strides(maps: Tensor) -> tuple[int, int]:
    """(channel, pixel) strides of a dense (B, C, H, W) in the layout of `empty_like_layout`."""
    if is_channels_last(maps):
        return 1, maps.shape[1]
    return maps.shape[2] * maps.shape[3], 1


def _check_maps(op: str, flow: Tensor, mask: Tensor | None) -> None:
    for name, size in (("flow", flow.shape[1:3]), ("mask", mask.shape[2:] if mask is not None else (1, 1))):
        if 0 in size:
            raise ValueError(f"{op}: {name} of {size[0]}x{size[1]} pixels cannot be resized; give it at least 1x1")


def _map_strides(flow: Tensor, mask: Tensor | None) -> tuple[int, ...]:
    mask_strides = (0, 0, 0) if mask is None else (mask.stride(0), mask.stride(2), mask.stride(3))
    return (*flow.stride(), *mask_strides)


def _map_sizes(flow: Tensor, mask: Tensor | None) -> tuple[int, ...]:
    return (*flow.shape[1:3], *((1, 1) if mask is None else mask.shape[2:]))


def sample(
    op: str, features: Tensor, flow: Tensor, mask: Tensor | None, size: tuple[int, int], padding: str, align: bool
) -> Tensor:
    """features (B, C, H, W), flow (B*T, h, w, 2), mask (B*T, 1, H', W') -> (B*T, C, *size) in the dtype of features."""
    samples, channels = flow.shape[0], features.shape[1]
    output = empty_like_layout(features, (samples, channels, *size), features.dtype)
    if output.numel() == 0:
        return output
    _check_maps(op, flow, mask)
    if features.numel() == 0:
        return output.zero_()
    tile = Tile.of(features, most_per_thread=8)
    pixel_blocks, chunks = blocks(size[0] * size[1], tile.pixels), blocks(channels, tile.chunk)
    launchable(forward_kernel)[(samples * chunks * pixel_blocks,)](
        features,
        flow,
        mask,
        output,
        *features.stride(),
        *_map_strides(flow, mask),
        *plane_strides(output),
        samples // features.shape[0],
        channels,
        *features.shape[2:],
        *size,
        *_map_sizes(flow, mask),
        pixel_blocks,
        chunks,
        PADDING=padding,
        ALIGN_CORNERS=align,
        RESIZE_FLOW=flow.shape[1:3] != size,
        RESIZE_MASK=mask is not None and mask.shape[2:] != size,
        DOUBLE=compute_dtype(features, flow, mask) == torch.float64,
        **tile.options,
    )
    return output


def sample_backward(
    op: str,
    grad: Tensor,
    features: Tensor,
    flow: Tensor,
    mask: Tensor | None,
    padding: str,
    align: bool,
    needs_features: bool,
    needs_flow: bool,
    needs_mask: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of features, flow and mask, each in its dtype, from grad (B*T, C, *size); of shape (0,) if not needed.

    Those of flow and mask, and with `deterministic` that of features, are bitwise equal in every run.
    """
    dtype = compute_dtype(features, flow, mask)
    samples, channels, *size = grad.shape
    needs_mask = needs_mask and mask is not None
    if grad.numel() == 0 or features.numel() == 0 or not (needs_features or needs_flow or needs_mask):
        return (
            zeros_like_layout(features, features.dtype) if needs_features else grad.new_empty(0),
            flow.new_zeros(flow.shape) if needs_flow else grad.new_empty(0),
            mask.new_zeros(mask.shape) if mask is not None and needs_mask else grad.new_empty(0),
        )
    _check_maps(op, flow, mask)
    times = samples // features.shape[0]
    tile = Tile.of(features, most_per_thread=4)
    pixel_blocks, chunks = blocks(size[0] * size[1], tile.pixels), blocks(channels, tile.chunk)
    buffer = scatter_buffer(features, dtype, deterministic) if needs_features else None
    scale = None
    if needs_features and deterministic:
        scale = fixed_point_scale(grad, mask, terms=times * size[0] * size[1], dtype=dtype)
    flow_parts = flow.new_empty((chunks, samples, *size, 2), dtype=dtype) if needs_flow else None
    mask_parts = flow.new_empty((chunks, samples, *size, 1), dtype=dtype) if needs_mask else None
    launchable(backward_kernel)[(samples * chunks * pixel_blocks,)](
        grad,
        features,
        flow,
        mask,
        buffer,
        flow_parts,
        mask_parts,
        scale,
        *grad.stride(),
        *features.stride(),
        *_map_strides(flow, mask),
        *(plane_strides(buffer) if buffer is not None else (0, 0)),
        samples,
        times,
        channels,
        *features.shape[2:],
        *size,
        *_map_sizes(flow, mask),
        pixel_blocks,
        chunks,
        PADDING=padding,
        ALIGN_CORNERS=align,
        RESIZE_FLOW=list(flow.shape[1:3]) != size,
        RESIZE_MASK=mask is not None and list(mask.shape[2:]) != size,
        DOUBLE=dtype == torch.float64,
        **tile.options,
    )

    def before_resize(parts: Tensor, size: torch.Size, dtype: torch.dtype) -> Tensor:
        whole = parts[0] if parts.shape[0] == 1 else parts.sum(0)
        return resize_adjoint(whole, size[0], size[1], dtype)

    grad_mask = grad.new_empty(0)
    if mask is not None and mask_parts is not None:
        grad_mask = before_resize(mask_parts, mask.shape[2:], mask.dtype).view(mask.shape)
    return (
        grad.new_empty(0) if buffer is None else gathered(buffer, scale, features.dtype),
        grad.new_empty(0) if flow_parts is None else before_resize(flow_parts, flow.shape[1:3], flow.dtype),
        grad_mask,
    )
