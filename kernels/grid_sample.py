"""Bilinear `torch.nn.functional.grid_sample` of images: the kernels of `warp` without a resize or a mask."""

from __future__ import annotations

from torch import Tensor

from lami.kernels._sampling import sample, sample_backward


def grid_sample(input: Tensor, grid: Tensor, padding_mode: str, align_corners: bool) -> Tensor:
    """input (B, C, H, W), grid (B, h, w, 2) -> (B, C, h, w), dtype of input."""
    height, width = grid.shape[1:3]
    return sample("grid_sample", input, grid, None, (height, width), padding_mode, align_corners)


def grid_sample_backward(
    grad: Tensor,
    input: Tensor,
    grid: Tensor,
    padding_mode: str,
    align_corners: bool,
    needs_input: bool,
    needs_grid: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of input and grid, each in its dtype; an empty one of shape (0,) where not needed.

    That of input is a sum by atomics, in any order unless `deterministic`.
    """
    grad_input, grad_grid, _ = sample_backward(
        "grid_sample",
        grad,
        input,
        grid,
        None,
        padding_mode,
        align_corners,
        needs_input,
        needs_grid,
        False,
        deterministic,
    )
    return grad_input, grad_grid
