"""Drop-in for `torch.nn.functional.grid_sample`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._library import FusedOp, empty_like_features, features_gradient_like, given, gradient_like, register

_PADDING = ("zeros", "border", "reflection")


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """`torch.nn.functional.grid_sample`: same signature, same result.

    Bilinear sampling of (B, C, H, W) by (B, h, w, 2) is fused, with three differences: NaN, infinite and huge
    coordinates lie outside the image and have no gradient; the backward pass is deterministic where PyTorch is asked
    for that; and autocast leaves the dtype alone.
    Everything else, wrong input included, goes to PyTorch.

    Args:
        input: (B, C, H, W) or (B, C, D, H, W).
        grid: (B, h, w, 2) or (B, d, h, w, 3).
        mode, padding_mode, align_corners: as in PyTorch.

    Returns:
        (B, C, h, w) or (B, C, d, h, w) in the dtype of `input`.

    Raises:
        RuntimeError, ValueError: as PyTorch.
    """
    backend = choose("grid_sample", input.device) if isinstance(input, Tensor) else "reference"
    if backend == "reference" or not _is_fused(input, grid, mode, padding_mode):
        return reference.grid_sample(input, grid, mode, padding_mode, align_corners)
    sampled: Tensor = _OP(backend, input, grid, padding_mode, bool(align_corners))
    return sampled


def _is_fused(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> bool:
    return (
        isinstance(grid, Tensor)
        and mode == "bilinear"
        and padding_mode in _PADDING
        and input.ndim == 4
        and grid.ndim == 4
        and grid.shape[3] == 2
        and grid.shape[0] == input.shape[0]
        and min(input.shape[1:]) > 0
        and input.is_floating_point()
        and grid.dtype == input.dtype
        and grid.device == input.device
    )


def _fake(input: Tensor, grid: Tensor, padding_mode: str, align_corners: bool) -> Tensor:
    return empty_like_features(input, (*input.shape[:2], *grid.shape[1:3]))


def _backward_fake(
    grad: Tensor,
    input: Tensor,
    grid: Tensor,
    padding_mode: str,
    align_corners: bool,
    needs_input: bool,
    needs_grid: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    return features_gradient_like(input, needs_input, grad), gradient_like(grid, needs_grid, grad)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.padding_mode, ctx.align_corners = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    grads = backward(grad, *ctx.saved_tensors, ctx.padding_mode, ctx.align_corners, *needs, ctx.deterministic)
    return *map(given, grads, needs), None, None


_OP = register(FusedOp("grid_sample", _fake, _backward_fake, _save, _gradient))
