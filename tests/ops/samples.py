"""Inputs of the ops, and what they mean, written out term by term."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lami import ops

CONTROL = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.05]])
VALUES = CONTROL + torch.tensor([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1], [0.05, 0.05]])
"""The example whose spline the TPSMM reference gives."""


def random_like(shape: tuple[int, ...], seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform float64, the same whatever the device and the state of the generators."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def keypoints(b: int, k: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, K, N, 2)."""
    return random_like((b, k, n, 2), seed, -0.8, 0.8).to(dtype)


def affine(b: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, 3, 3), another for each sample."""
    matrices = torch.tensor([[0.9, 0.1, 0.043], [-0.08, 1.1, -0.03], [0.0, 0.0, 1.0]], dtype=dtype).repeat(b, 1, 1)
    matrices[:, 0, 2] += 0.1 * torch.arange(b, dtype=dtype)
    return matrices


def pixel_grid(h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(h, w, 2) by the formula 2 i / (n - 1) - 1."""
    ys, xs = (torch.tensor([2 * i / (n - 1) - 1 for i in range(n)], dtype=dtype) for n in (h, w))
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def spline(theta: Tensor, weights: Tensor, control: Tensor, point: Tensor) -> Tensor:
    """T(p) of one spline at one point, term by term."""
    result = theta[:, :2] @ point + theta[:, 2]
    for w, c in zip(weights, control, strict=True):
        s = (point - c).square().sum()
        result = result + w * s * torch.log(s + 1e-9)
    return result


def all_grids(kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, h: int, w: int) -> Tensor:
    """(B, K + 1, h, w, 2), composed of the public ops."""
    theta, weights = ops.fit_tps(kp_driving, kp_source)
    grid = pixel_grid(h, w, theta.dtype).to(theta.device).expand(len(theta), h, w, 2)
    if background is not None:
        grid = torch.einsum("bij,bhwj->bhwi", background[:, :2], F.pad(grid, (0, 1), value=1.0))
    return torch.cat((grid[:, None], ops.tps_grid(theta, weights, kp_driving, (h, w))), dim=1)
