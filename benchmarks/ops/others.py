"""Implementations that many use in place of ours, and a copy: the limit of what memory allows.

Each function returns an implementation, or the reason why this installation has none.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ops import eager
from benchmarks.ops.cases import Other


def linalg_fit_tps(control_points: Tensor, values: Tensor) -> Other:
    """TPSMM's system, solved without an inverse."""
    return Other(eager.solve_tps, (control_points, values))


def kornia_fit_tps(control_points: Tensor, values: Tensor) -> Other | str:
    """Of (..., N, 2) twice. kornia takes all splines as one batch."""
    if isinstance(kornia := _import("kornia.geometry.transform", "kornia"), str):
        return kornia
    points = tuple(_leaf(tensor.flatten(0, -3)) for tensor in (control_points, values))
    differs = "distances run from control points to values, without regularisation"
    return Other(kornia.get_tps_transform, points, differs)


def kornia_tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, side: int) -> Other | str:
    if isinstance(kornia := _import("kornia.geometry.transform", "kornia"), str):
        return kornia
    splines = _kornia_splines(theta, weights, control_points)
    points = eager.identity_grid((side, side), theta).view(1, -1, 2).expand(len(splines[0]), -1, -1)

    def grid(*splines: Tensor) -> Tensor:
        warped: Tensor = kornia.warp_points_tps(points, *splines)
        return warped.view(*control_points.shape[:2], side, side, 2)

    return Other(grid, splines)


def kornia_tps_image(image: Tensor, theta: Tensor, weights: Tensor, control_points: Tensor) -> Other | str:
    """Of an image and one spline each, (B, 1, N, 2)."""
    if isinstance(kornia := _import("kornia.geometry.transform", "kornia"), str):
        return kornia

    def warp(image: Tensor, *splines: Tensor) -> Tensor:
        warped: Tensor = kornia.warp_image_tps(image, *splines, align_corners=True)
        return warped

    return Other(warp, (image, *_kornia_splines(theta, weights, control_points)))


def _kornia_splines(theta: Tensor, weights: Tensor, control_points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centres, weights of the radial basis, of which kornia takes half, and (constant, x, y)."""
    affine = theta.flatten(0, 1).transpose(1, 2)[:, [2, 0, 1]]
    return _leaf(control_points.flatten(0, 1)), _leaf(2 * weights.flatten(0, 1)), _leaf(affine)


def flag_gems_grid_sample(features: Tensor, grid: Tensor) -> Other | str:
    """FlagGems has Triton kernels for inference, on GPUs."""
    if features.device.type != "cuda":
        return "flag_gems runs on GPUs only"
    if isinstance(flag_gems := _import("flag_gems", "flag_gems"), str):
        return flag_gems
    if (sample := getattr(flag_gems, "grid_sample", None)) is None:
        return f"flag_gems {getattr(flag_gems, '__version__', '')} has no grid_sample"

    def call(features: Tensor, grid: Tensor) -> Tensor:
        sampled: Tensor = sample(features, grid, align_corners=True)
        return sampled

    return Other(call, (features, grid), differentiable=False)


def grid_sample_alone(features: Tensor, flow: Tensor) -> Other:
    """PyTorch's sampling as a part of a warp: the flow, (B, h, w, 2), is resized before time is taken."""
    size = (features.shape[2], features.shape[3])
    resized = F.interpolate(flow.detach().permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)
    grid = _leaf(resized.permute(0, 2, 3, 1).contiguous())
    return Other(eager.grid_sample, (features, grid), "the flow is resized before, nothing is masked")


def copy(nbytes: int, device: torch.device) -> Other:
    """Reads and writes as many bytes together."""
    tensors = torch.empty(2, max(nbytes // 2, 1), dtype=torch.uint8, device=device).unbind()
    return Other(torch.Tensor.copy_, tensors, "computes nothing", differentiable=False)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _import(module: str, package: str) -> Any | str:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return f"{package} is not installed" if error.name == package else f"{package} cannot be imported: {error}"
