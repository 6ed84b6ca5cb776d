"""The other side of the benchmarks: the ops as TPSMM computes them, in eager PyTorch.

Arguments and results are those of `lami.ops`. Splines are fitted by the inverse of L, distances to all control points
are expanded in memory, the source is repeated for each motion, flow and mask are resized before use. TPSMM knows one
time only: of its ways to handle more, a batch of repeated sources or one time after the other, the faster is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_sample(features: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(features, grid, align_corners=True)


def fit_tps(control_points: Tensor, values: Tensor, regularization: float = 0.01) -> tuple[Tensor, Tensor]:
    """(B, K, N, 2) twice -> theta (B, K, 2, 3), weights (B, K, N, 2)."""
    system, padded = _tps_system(control_points, values, regularization)
    return _parts(torch.matmul(torch.inverse(system), padded))


def solve_tps(control_points: Tensor, values: Tensor, regularization: float = 0.01) -> tuple[Tensor, Tensor]:
    """The same by `torch.linalg.solve`, not TPSMM's way."""
    return _parts(torch.linalg.solve(*_tps_system(control_points, values, regularization)))


def _tps_system(control_points: Tensor, values: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    """L (B, K, N + 3, N + 3) and the right side (B, K, N + 3, 2)."""
    b, k, n, _ = control_points.shape
    distance = torch.norm(control_points[:, :, :, None] - control_points[:, :, None], dim=4, p=2)
    radial = distance**2
    radial = radial * torch.log(radial + 1e-9)
    affine = torch.cat((control_points, control_points.new_ones(b, k, n, 1)), dim=3)
    corner = control_points.new_zeros(b, k, 3, 3)
    system = torch.cat((torch.cat((radial, affine), dim=3), torch.cat((affine.transpose(2, 3), corner), dim=3)), dim=2)
    system = system + regularization * torch.eye(n + 3, dtype=system.dtype, device=system.device)
    return system, torch.cat((values, values.new_zeros(b, k, 3, 2)), dim=2)


def _parts(solution: Tensor) -> tuple[Tensor, Tensor]:
    return solution[:, :, -3:].transpose(2, 3), solution[:, :, :-3]


def identity_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h, w, 2)"""
    h, w = size
    x = 2 * torch.arange(w, dtype=like.dtype, device=like.device) / (w - 1) - 1
    y = 2 * torch.arange(h, dtype=like.dtype, device=like.device) / (h - 1) - 1
    return torch.stack((x.view(1, -1).repeat(h, 1), y.view(-1, 1).repeat(1, w)), dim=2)


def tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, ...) -> (B, K, h, w, 2)"""
    b, k, n, _ = control_points.shape
    points = identity_grid(size, theta).view(1, 1, -1, 2)
    affine = torch.matmul(theta[..., :2], points.transpose(2, 3)) + theta[..., 2:]
    squared = (points.view(1, 1, -1, 1, 2) - control_points.view(b, k, 1, n, 2)) ** 2
    radial = squared.sum(-1)
    radial = radial * torch.log(radial + 1e-9)
    return (affine.transpose(2, 3) + torch.matmul(radial, weights)).view(b, k, *size, 2)


def keypoint_heatmaps(kp_driving: Tensor, kp_source: Tensor, size: tuple[int, int], variance: float = 0.01) -> Tensor:
    def gaussians(keypoints: Tensor) -> Tensor:
        b, p, _ = keypoints.shape
        grid = identity_grid(size, keypoints).view(1, 1, *size, 2).repeat(b, p, 1, 1, 1)
        return torch.exp(-0.5 * ((grid - keypoints.view(b, p, 1, 1, 2)) ** 2).sum(-1) / variance)

    heatmaps = gaussians(kp_driving) - gaussians(kp_source)
    return torch.cat((heatmaps.new_zeros(heatmaps.shape[0], 1, *size), heatmaps), dim=1)


def transformations(kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The grids of the background and of all splines, (B, K + 1, h, w, 2)."""
    b = kp_driving.shape[0]
    splines = tps_grid(*fit_tps(kp_driving, kp_source), kp_driving, size)
    grid = identity_grid(size, kp_driving).view(1, 1, *size, 2).repeat(b, 1, 1, 1, 1)
    if background is not None:
        homogeneous = torch.cat((grid, torch.ones_like(grid[..., :1])), dim=4)
        moved = torch.matmul(background.view(b, 1, 1, 1, 3, 3), homogeneous.unsqueeze(-1)).squeeze(-1)
        grid = moved[..., :2] / moved[..., 2:]
    return torch.cat((grid, splines), dim=1)


def deform(source: Tensor, grids: Tensor) -> Tensor:
    """Sample a repeated source by each grid: (B, C, h, w), (B, K + 1, h, w, 2) -> (B, (K + 1)*C, h, w)."""
    b, motions, h, w, _ = grids.shape
    repeated = source.unsqueeze(1).repeat(1, motions, 1, 1, 1).view(b * motions, -1, h, w)
    return F.grid_sample(repeated, grids.view(b * motions, h, w, 2), align_corners=True).view(b, -1, h, w)


def motion_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None, variance: float = 0.01
) -> Tensor:
    size = (source.shape[2], source.shape[3])
    heatmaps = keypoint_heatmaps(kp_driving.flatten(1, 2), kp_source.flatten(1, 2), size, variance)
    return torch.cat((heatmaps, deform(source, transformations(kp_driving, kp_source, background, size))), dim=1)


def blend(logits: Tensor, grids: Tensor) -> tuple[Tensor, Tensor]:
    contributions = F.softmax(logits, dim=1)
    flow = (grids.permute(0, 1, 4, 2, 3) * contributions.unsqueeze(2)).sum(dim=1)
    return flow.permute(0, 2, 3, 1), contributions


def blend_flow(
    logits: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return blend(logits, transformations(kp_driving, kp_source, background, (logits.shape[2], logits.shape[3])))


def warp(features: Tensor, flow: Tensor, mask: Tensor | None = None) -> Tensor:
    size = (features.shape[2], features.shape[3])
    if flow.shape[1:3] != size:
        flow = F.interpolate(flow.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)
        flow = flow.permute(0, 2, 3, 1)
    warped = F.grid_sample(features, flow, align_corners=True)
    if mask is None:
        return warped
    if mask.shape[2:] != size:
        mask = F.interpolate(mask, size=size, mode="bilinear", align_corners=True)
    return warped * mask


def tps_warp(
    image: Tensor, logits: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    flow, _ = blend_flow(logits, kp_driving, kp_source, background)
    return warp(image, flow), flow


def _for_each_time(tensor: Tensor, times: int) -> Tensor:
    return tensor.unsqueeze(1).repeat(1, times, *[1] * (tensor.ndim - 1)).flatten(0, 1)


def anytime_keypoints(kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> Tensor:
    t = times.view(*times.shape, 1, 1, 1)
    return (1 - t) * kp_source.unsqueeze(1) + t * kp_driving.unsqueeze(1)


def anytime_motion_features(
    source: Tensor, kp_source: Tensor, kp_driving: Tensor, times: Tensor, background: Tensor
) -> Tensor:
    """`background` is (B, T, 3, 3)."""
    b, t = times.shape
    features = motion_features(
        _for_each_time(source, t),
        anytime_keypoints(kp_source, kp_driving, times).flatten(0, 1),
        _for_each_time(kp_source, t),
        background.flatten(0, 1),
    )
    return features.unflatten(0, (b, t))


def anytime_warp(features: Sequence[Tensor], flow: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
    """One time after the other, as the generator is called; faster and leaner than `repeated_warp`."""
    return [
        torch.stack([warp(level, flow[:, t], mask[:, t]) for t in range(flow.shape[1])], dim=1)
        for level, mask in zip(features, masks, strict=True)
    ]


def repeated_warp(features: Sequence[Tensor], flow: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
    """All times as one batch, as networks take them, the features repeated for each."""
    b, t = flow.shape[:2]
    return [
        warp(_for_each_time(level, t), flow.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, (b, t))
        for level, mask in zip(features, masks, strict=True)
    ]
