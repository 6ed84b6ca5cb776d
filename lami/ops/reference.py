"""The ops in plain PyTorch: the specification that every other backend has to match.

Arguments are those of the public functions, already checked; shapes and meaning are documented there. Spline fits,
coordinates and accumulations are computed in fp32, or in fp64 if an input is fp64, also under autocast; features keep
their own dtype. Terms are rounded in the order of TPSMM (the norm is squared again, the system inverted): at the border
of an image the last bit of a coordinate decides what a pixel shows, and published weights saw its bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_RADIAL_EPSILON = 1e-9
_DROPOUT_EPSILON = 1e-6
_FAR = 1e4
"""A coordinate outside every image, whose pixel index still fits an integer."""


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Half precision can neither resolve a pixel nor solve the spline system."""
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors):
        return torch.float64
    return torch.float32


def _full_precision(device: torch.device) -> torch.autocast:
    known = torch.amp.is_autocast_available(device.type)  # not for meta tensors
    return torch.autocast(device.type if known else "cpu", enabled=False)


def _identity_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h, w, 2) coordinates of the pixel centres; a side of one pixel is at -1."""
    ys, xs = (2 * (torch.arange(n, dtype=like.dtype, device=like.device) / max(n - 1, 1)) - 1 for n in size)
    return torch.stack((xs.expand(size), ys[:, None].expand(size)), dim=-1)


def _radial_basis(squared_distance: Tensor) -> Tensor:
    """U(s) = s ln(s + 1e-9), s the squared distance; U(0) = 0."""
    return squared_distance * torch.log(squared_distance + _RADIAL_EPSILON)


def fit_tps(control_points: Tensor, values: Tensor, regularization: float = 0.01) -> tuple[Tensor, Tensor]:
    with _full_precision(control_points.device):
        dtype = compute_dtype(control_points, values)
        control_points, values = torch.broadcast_tensors(control_points.to(dtype), values.to(dtype))
        n = control_points.shape[-2]
        differences = control_points[..., :, None, :] - control_points[..., None, :, :]
        radial = _radial_basis(torch.linalg.vector_norm(differences, dim=-1).square())
        affine = F.pad(control_points, (0, 1), value=1.0)
        upper = torch.cat((radial, affine), dim=-1)
        lower = F.pad(affine.mT, (0, 3))
        system = torch.cat((upper, lower), dim=-2)
        system = system + regularization * torch.eye(n + 3, dtype=dtype, device=system.device)
        solution = torch.linalg.inv_ex(system)[0] @ F.pad(values, (0, 0, 0, 3))
        return solution[..., n:, :].mT, solution[..., :n, :]


def tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, size: tuple[int, int]) -> Tensor:
    grid = _identity_grid(size, control_points.to(compute_dtype(theta, weights, control_points)))
    return tps_points(theta, weights, control_points, grid.flatten(0, 1)).unflatten(-2, size)


def tps_points(theta: Tensor, weights: Tensor, control_points: Tensor, points: Tensor) -> Tensor:
    with _full_precision(theta.device):
        dtype = compute_dtype(theta, weights, control_points, points)
        theta, weights, control_points, points = (x.to(dtype) for x in (theta, weights, control_points, points))
        radial = _radial_basis((points[..., :, None, :] - control_points[..., None, :, :]).square().sum(-1))
        affine = theta[..., :2] @ points.mT + theta[..., 2:]
        return affine.mT + radial @ weights


def keypoint_heatmaps(kp_driving: Tensor, kp_source: Tensor, size: tuple[int, int], variance: float = 0.01) -> Tensor:
    with _full_precision(kp_driving.device):
        dtype = compute_dtype(kp_driving, kp_source)
        kp_driving, kp_source = kp_driving.to(dtype), kp_source.to(dtype)
        grid = _identity_grid(size, kp_driving)

        def gaussians(keypoints: Tensor) -> Tensor:
            return torch.exp((grid - keypoints[:, :, None, None]).square().sum(-1) / (-2 * variance))

        return F.pad(gaussians(kp_driving) - gaussians(kp_source), (0, 0, 0, 0, 1, 0))


def _candidate_grids(
    kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """(B, K + 1, h, w, 2): the background's grid, then one for each spline that maps driving to source keypoints."""
    kp_driving, kp_source = kp_driving.to(dtype), kp_source.to(dtype)
    theta, weights = fit_tps(kp_driving, kp_source)
    splines = tps_grid(theta, weights, kp_driving, size)
    grid = _identity_grid(size, splines).expand(splines.shape[0], *size, 2)
    if background is not None:
        homogeneous = torch.einsum("bij,bhwj->bhwi", background.to(dtype), F.pad(grid, (0, 1), value=1.0))
        grid = homogeneous[..., :2] / homogeneous[..., 2:]
    return torch.cat((grid[:, None], splines), dim=1)


def motion_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None, variance: float = 0.01
) -> Tensor:
    size = (source.shape[2], source.shape[3])
    with _full_precision(source.device):
        dtype = compute_dtype(source, kp_driving, kp_source, background)
        kp_driving, kp_source = kp_driving.to(dtype), kp_source.to(dtype)
        heatmaps = keypoint_heatmaps(kp_driving.flatten(1, 2), kp_source.flatten(1, 2), size, variance)
        grids = _candidate_grids(kp_driving, kp_source, background, size, dtype)
        # All motions of a sample read the same image, so they form one tall grid and the source is never repeated.
        warped = _sample(source.to(dtype), grids.flatten(1, 2))
        warped = warped.unflatten(2, (grids.shape[1], size[0])).transpose(1, 2).flatten(1, 2)
        return torch.cat((heatmaps, warped), dim=1).to(source.dtype)


def blend_flow(
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None = None,
    keep: Tensor | None = None,
    dropout: str = "reference",
) -> tuple[Tensor, Tensor]:
    with _full_precision(logits.device):
        dtype = compute_dtype(logits, kp_driving, kp_source, background)
        logits = logits.to(dtype)
        if keep is None:
            contributions = logits.softmax(dim=1)
        elif dropout == "corrected":
            contributions = logits.masked_fill(~keep[..., None, None], -torch.inf).softmax(dim=1)
        else:
            kept = torch.exp(logits - logits.amax(dim=1, keepdim=True)) * keep[..., None, None]
            contributions = kept / (kept.sum(dim=1, keepdim=True) + _DROPOUT_EPSILON)
        size = (logits.shape[2], logits.shape[3])
        grids = _candidate_grids(kp_driving, kp_source, background, size, dtype)
        return torch.einsum("bkhw,bkhwd->bhwd", contributions, grids), contributions


def _sample(features: Tensor, grid: Tensor, padding_mode: str = "zeros", align_corners: bool = True) -> Tensor:
    """Bilinear sampling where NaN and huge coordinates lie outside the image, without gradient.

    torch's own kernel gives NaN for them, or reads out of bounds. Features without pixels are the padding value, 0.
    """
    grid = grid.nan_to_num(nan=-_FAR).clamp(-_FAR, _FAR)
    if 0 in features.shape[2:]:
        features = F.pad(features, (0, 1, 0, 1))
    return F.grid_sample(features, grid, padding_mode=padding_mode, align_corners=align_corners)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, align_corners, of (B, C, h, w)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if 0 in size:  # which F.interpolate refuses
        return maps.sum((2, 3), keepdim=True).expand(*maps.shape[:2], *size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def warp(
    features: Tensor,
    flow: Tensor,
    mask: Tensor | None = None,
    padding_mode: str = "zeros",
    align_corners: bool = True,
) -> Tensor:
    size = (features.shape[2], features.shape[3])
    with _full_precision(features.device):
        dtype = compute_dtype(features, flow, mask)
        grid = _resize(flow.to(dtype).movedim(-1, 1), size).movedim(1, -1)
        sampled = _sample(features.to(dtype), grid, padding_mode, align_corners)
        if mask is not None:
            sampled = sampled * _resize(mask.to(dtype), size)
        return sampled.to(features.dtype)


def tps_warp(
    image: Tensor,
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None = None,
    keep: Tensor | None = None,
    dropout: str = "reference",
) -> tuple[Tensor, Tensor]:
    flow, _ = blend_flow(logits, kp_driving, kp_source, background, keep, dropout)
    return warp(image, flow), flow


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    return F.grid_sample(input, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def anytime_keypoints(kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> Tensor:
    """`times` is (B, T)."""
    dtype = compute_dtype(kp_source, kp_driving, times)
    times = times.to(dtype)[:, :, None, None, None]
    moved = (1 - times) * kp_source.to(dtype)[:, None] + times * kp_driving.to(dtype)[:, None]
    return moved.to(kp_source.dtype)


def anytime_motion_features(
    source: Tensor,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None = None,
    variance: float = 0.01,
) -> Tensor:
    """`times` is (B, T), `background` (B, T, 3, 3)."""
    dtype = compute_dtype(source, kp_source, kp_driving, times, background)
    kp_source = kp_source.to(dtype)
    kp_times = anytime_keypoints(kp_source, kp_driving, times)
    b, t = kp_times.shape[:2]
    features = motion_features(
        source[:, None].expand(b, t, *source.shape[1:]).flatten(0, 1),
        kp_times.flatten(0, 1),
        kp_source[:, None].expand_as(kp_times).flatten(0, 1),
        None if background is None else background.flatten(0, 1),
        variance,
    )
    return features.unflatten(0, (b, t))


def anytime_warp(features: Sequence[Tensor], flow: Tensor, masks: Sequence[Tensor] = ()) -> list[Tensor]:
    b, t = flow.shape[:2]
    warped = []
    for level, level_features in enumerate(features):
        mask = masks[level].flatten(0, 1) if masks else None
        repeated = level_features[:, None].expand(b, t, *level_features.shape[1:]).flatten(0, 1)
        warped.append(warp(repeated, flow.flatten(0, 1), mask).unflatten(0, (b, t)))
    return warped
