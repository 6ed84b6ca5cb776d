"""The ops in plain PyTorch: the specification that every other backend has to match.

Spline fits, coordinates and accumulations are computed in fp32 or better, also under autocast; features keep their own
dtype. Conventions: see `lami.ops`; equations: TPSMM (Zhao and Zhang, CVPR 2022) and the anytime interpolation of LAMI.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lami.ops._checks import check_broadcast, check_shapes, check_size, check_splines, check_times, check_variance

_RADIAL_EPSILON = 1e-9
_DROPOUT_EPSILON = 1e-6
_FAR = 1e4
"""A coordinate outside every image, whose pixel index still fits an integer."""


def _coordinates(tensor: Tensor) -> Tensor:
    """At least fp32: half precision cannot resolve a pixel, nor solve the spline system."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _identity_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h, w, 2) coordinates of the pixel centres; a side of one pixel is at -1."""
    ys, xs = (torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in size)
    return torch.stack((xs.expand(size), ys[:, None].expand(size)), dim=-1)


def _radial_basis(squared_distance: Tensor) -> Tensor:
    """U(s) = s ln(s + 1e-9), s the squared distance; U(0) = 0."""
    return squared_distance * torch.log(squared_distance + _RADIAL_EPSILON)


def fit_tps(control_points: Tensor, values: Tensor, regularization: float = 0.01) -> tuple[Tensor, Tensor]:
    """Fit the thin-plate spline that maps each control point to its value (TPSMM, Eq. 2 to 4).

    Solves `(L + regularization I) [weights; theta^T] = [values; 0]` with L = [[U, P], [P^T, 0]],
    U_ij = U(|c_i - c_j|^2), P = [x, y, 1]. The regulariser acts on the whole matrix, the affine block included, as in
    TPSMM.

    Args:
        control_points: (..., N, 2) where the spline is read, 3 <= N <= 16.
        values: (..., N, 2) what it gives there.
        regularization: added to the diagonal.

    Returns:
        theta (..., 2, 3), the affine part with columns x, y, 1, and weights (..., N, 2); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or N outside 3..16.
    """
    bound = check_shapes("fit_tps", control_points=(control_points, "... N 2"), values=(values, "... N 2"))
    check_splines("fit_tps", bound)
    check_broadcast("fit_tps", control_points=control_points, values=values)
    with _full_precision(control_points.device):
        control_points, values = torch.broadcast_tensors(_coordinates(control_points), _coordinates(values))
        dtype = torch.promote_types(control_points.dtype, values.dtype)
        control_points, values = control_points.to(dtype), values.to(dtype)
        n = bound["N"]
        differences = control_points[..., :, None, :] - control_points[..., None, :, :]
        radial = _radial_basis(differences.square().sum(-1))
        affine = F.pad(control_points, (0, 1), value=1.0)
        upper = torch.cat((radial, affine), dim=-1)
        lower = F.pad(affine.mT, (0, 3))
        system = torch.cat((upper, lower), dim=-2)
        system = system + regularization * torch.eye(n + 3, dtype=dtype, device=system.device)
        solution = torch.linalg.solve_ex(system, F.pad(values, (0, 0, 0, 3)))[0]
        return solution[..., n:, :].mT, solution[..., :n, :]


def tps_grid(theta: Tensor, weights: Tensor, control_points: Tensor, size: tuple[int, int]) -> Tensor:
    """Evaluate splines on a pixel grid: T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2).

    Args:
        theta: (..., 2, 3), weights: (..., N, 2), control_points: (..., N, 2), as given to and by `fit_tps`.
        size: (h, w) of the grid.

    Returns:
        (..., h, w, 2) positions (x, y); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device or size.
    """
    check_shapes(
        "tps_grid", theta=(theta, "... 2 3"), weights=(weights, "... N 2"), control_points=(control_points, "... N 2")
    )
    check_broadcast("tps_grid", theta=theta, weights=weights, control_points=control_points)
    check_size("tps_grid", size)
    grid = _identity_grid(size, _coordinates(control_points))
    return tps_points(theta, weights, control_points, grid.flatten(0, 1)).unflatten(-2, size)


def tps_points(theta: Tensor, weights: Tensor, control_points: Tensor, points: Tensor) -> Tensor:
    """Evaluate splines at any points: T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2).

    Args:
        theta: (..., 2, 3), weights: (..., N, 2), control_points: (..., N, 2), as given to and by `fit_tps`.
        points: (..., P, 2); leading dimensions broadcast against those of the splines.

    Returns:
        (..., P, 2); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device.
    """
    check_shapes(
        "tps_points",
        theta=(theta, "... 2 3"),
        weights=(weights, "... N 2"),
        control_points=(control_points, "... N 2"),
        points=(points, "... P 2"),
    )
    check_broadcast("tps_points", theta=theta, weights=weights, control_points=control_points, points=points)
    with _full_precision(theta.device):
        theta, weights, control_points, points = map(_coordinates, (theta, weights, control_points, points))
        radial = _radial_basis((points[..., :, None, :] - control_points[..., None, :, :]).square().sum(-1))
        return F.pad(points, (0, 1), value=1.0) @ theta.mT + radial @ weights


def keypoint_heatmaps(kp_driving: Tensor, kp_source: Tensor, size: tuple[int, int], variance: float = 0.01) -> Tensor:
    """Difference of Gaussians around driving and source keypoints, behind a zero background channel (TPSMM).

    Args:
        kp_driving, kp_source: (B, P, 2).
        size: (h, w).
        variance: of the Gaussian, in squared normalised coordinates.

    Returns:
        (B, P + 1, h, w) with channel 0 zero and channel p + 1 = G(kp_driving_p) - G(kp_source_p),
        G(c) = exp(-|p - c|^2 / (2 variance)); fp32, or fp64 for fp64 input.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device or size, or a variance that is not positive.
    """
    check_shapes("keypoint_heatmaps", kp_driving=(kp_driving, "B P 2"), kp_source=(kp_source, "B P 2"))
    check_size("keypoint_heatmaps", size)
    check_variance("keypoint_heatmaps", variance)
    with _full_precision(kp_driving.device):
        kp_driving, kp_source = _coordinates(kp_driving), _coordinates(kp_source)
        grid = _identity_grid(size, kp_driving)

        def gaussians(keypoints: Tensor) -> Tensor:
            return torch.exp((grid - keypoints[:, :, None, None]).square().sum(-1) / (-2 * variance))

        return F.pad(gaussians(kp_driving) - gaussians(kp_source), (0, 0, 0, 0, 1, 0))


def _candidate_grids(kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, size: tuple[int, int]) -> Tensor:
    """(B, K + 1, h, w, 2): the background's grid, then one for each spline that maps driving to source keypoints."""
    theta, weights = fit_tps(kp_driving, kp_source)
    splines = tps_grid(theta, weights, kp_driving, size)
    grid = _identity_grid(size, splines).expand(len(splines), *size, 2)
    if background is not None:
        background = background.to(splines.dtype)
        homogeneous = torch.einsum("bij,bhwj->bhwi", background, F.pad(grid, (0, 1), value=1.0))
        grid = homogeneous[..., :2] / homogeneous[..., 2:]
    return torch.cat((grid[:, None], splines), dim=1)


def motion_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None = None, variance: float = 0.01
) -> Tensor:
    """Input of the dense motion network: heatmaps, then the source warped by each of the K + 1 candidate motions.

    Args:
        source: (B, C, h, w) image at the size of the flow.
        kp_driving, kp_source: (B, K, N, 2).
        background: (B, 3, 3) homogeneous map from driving to source coordinates; None is the identity.
        variance: of the heatmaps.

    Returns:
        (B, K*N + 1 + (K + 1)*C, h, w) in the dtype of `source`: heatmaps as `keypoint_heatmaps`, then the warped
        sources, background first, channels of one motion together.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or N outside 3..16.
    """
    bound = check_shapes(
        "motion_features",
        source=(source, "B C h w"),
        kp_driving=(kp_driving, "B K N 2"),
        kp_source=(kp_source, "B K N 2"),
        background=(background, "B 3 3"),
    )
    check_splines("motion_features", bound)
    check_variance("motion_features", variance)
    size = (bound["h"], bound["w"])
    with _full_precision(source.device):
        heatmaps = keypoint_heatmaps(kp_driving.flatten(1, 2), kp_source.flatten(1, 2), size, variance)
        grids = _candidate_grids(kp_driving, kp_source, background, size)
        # All motions of a sample read the same image, so they form one tall grid and the source is never repeated.
        tall = grids.flatten(1, 2)
        warped = _sample(source.to(tall.dtype), tall)
        warped = warped.unflatten(2, (bound["K"] + 1, size[0])).transpose(1, 2).flatten(1, 2)
        return torch.cat((heatmaps.to(warped.dtype), warped), dim=1).to(source.dtype)


def blend_flow(
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None = None,
    keep: Tensor | None = None,
    dropout: str = "reference",
) -> tuple[Tensor, Tensor]:
    """Blend K + 1 candidate motions into one flow by their contribution maps (TPSMM, Eq. 9 and 10).

    Args:
        logits: (B, K + 1, h, w) contribution logits, background first.
        kp_driving, kp_source: (B, K, N, 2).
        background: (B, 3, 3) homogeneous map from driving to source coordinates; None is the identity.
        keep: (B, K + 1) bool, motions that survive contribution dropout; None keeps all with a plain softmax.
        dropout: how dropped motions leave the softmax. `reference`: e_k d_k / (sum_j e_j d_j + 1e-6) with the maximum
            over all motions subtracted first, as TPSMM, whose contributions vanish when a far winner is dropped.
            `corrected`: the softmax over the motions kept.

    Returns:
        flow (B, h, w, 2), a backward sampling grid, and contributions (B, K + 1, h, w); fp32, or fp64 for fp64 logits.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, N outside 3..16, or an unknown `dropout`.
    """
    bound = check_shapes(
        "blend_flow",
        logits=(logits, "B M h w"),
        kp_driving=(kp_driving, "B K N 2"),
        kp_source=(kp_source, "B K N 2"),
        background=(background, "B 3 3"),
    )
    check_splines("blend_flow", bound)
    if bound["M"] != bound["K"] + 1:
        raise ValueError(
            f"blend_flow: logits must have K + 1 = {bound['K'] + 1} channels for K = {bound['K']} splines, "
            f"got {bound['M']}"
        )
    if dropout not in ("reference", "corrected"):
        raise ValueError(f"blend_flow: dropout must be 'reference' or 'corrected', got {dropout!r}")
    if keep is not None and (keep.dtype != torch.bool or keep.shape != logits.shape[:2]):
        raise ValueError(
            f"blend_flow: keep must be bool of shape {tuple(logits.shape[:2])}, got {keep.dtype} {tuple(keep.shape)}"
        )
    with _full_precision(logits.device):
        logits = _coordinates(logits)
        if keep is None:
            contributions = logits.softmax(dim=1)
        elif dropout == "corrected":
            contributions = logits.masked_fill(~keep[..., None, None], -torch.inf).softmax(dim=1)
        else:
            kept = torch.exp(logits - logits.amax(dim=1, keepdim=True)) * keep[..., None, None]
            contributions = kept / (kept.sum(dim=1, keepdim=True) + _DROPOUT_EPSILON)
        grids = _candidate_grids(kp_driving, kp_source, background, (bound["h"], bound["w"]))
        return torch.einsum("bkhw,bkhwd->bhwd", contributions, grids.to(contributions.dtype)), contributions


def _sample(features: Tensor, grid: Tensor, padding_mode: str = "zeros", align_corners: bool = True) -> Tensor:
    """Bilinear sampling where NaN and huge coordinates lie outside the image, without gradient.

    torch's own kernel gives NaN for them, or reads out of bounds.
    """
    grid = grid.nan_to_num(nan=-_FAR).clamp(-_FAR, _FAR)
    return F.grid_sample(features, grid, padding_mode=padding_mode, align_corners=align_corners)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, align_corners, of (B, C, h, w)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def warp(
    features: Tensor,
    flow: Tensor,
    mask: Tensor | None = None,
    padding_mode: str = "zeros",
    align_corners: bool = True,
) -> Tensor:
    """Sample features along a flow of any size and multiply by a mask.

    Flow and mask are resized to the features' size (bilinear, align_corners), then
    `mask * grid_sample(features, flow)`. Flow values are normalised coordinates and need no rescaling; NaN, infinite
    and huge ones lie outside the image.

    Args:
        features: (B, C, H, W).
        flow: (B, h, w, 2).
        mask: (B, 1, H', W') or None.
        padding_mode, align_corners: as `torch.nn.functional.grid_sample`.

    Returns:
        (B, C, H, W) in the dtype of `features`.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or an unknown padding mode.
    """
    bound = check_shapes("warp", features=(features, "B C H W"), flow=(flow, "B h w 2"), mask=(mask, "B 1 _ _"))
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"warp: padding_mode must be zeros, border or reflection, got {padding_mode!r}")
    size = (bound["H"], bound["W"])
    with _full_precision(features.device):
        grid = _resize(_coordinates(flow).movedim(-1, 1), size).movedim(1, -1)
        dtype = torch.promote_types(grid.dtype, features.dtype)
        sampled = _sample(features.to(dtype), grid.to(dtype), padding_mode, align_corners)
        if mask is not None:
            sampled = sampled * _resize(_coordinates(mask), size).to(dtype)
        return sampled.to(features.dtype)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """`torch.nn.functional.grid_sample`: same signature, same result."""
    return F.grid_sample(input, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def anytime_keypoints(kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> Tensor:
    """Keypoints that move linearly from source to driving pose (LAMI, Eq. 1): (1 - t) kp_source + t kp_driving.

    Args:
        kp_source, kp_driving: (B, K, N, 2).
        times: (T,), or (B, T) for times of each sample, strictly between 0 (source) and 1 (driving).

    Returns:
        (B, T, K, N, 2).

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, no times, or (on the CPU) a time outside (0, 1).
    """
    bound = check_shapes(
        "anytime_keypoints",
        kp_source=(kp_source, "B K N 2"),
        kp_driving=(kp_driving, "B K N 2"),
        times=(times, "... T"),
    )
    times = check_times("anytime_keypoints", times, bound["B"]).to(kp_source.dtype)[:, :, None, None, None]
    return (1 - times) * kp_source[:, None] + times * kp_driving[:, None]


def anytime_motion_features(
    source: Tensor,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None = None,
    variance: float = 0.01,
) -> Tensor:
    """`motion_features` from the source to its keypoints at several times (Eq. 1 and 2).

    Args:
        source: (B, C, h, w).
        kp_source, kp_driving: (B, K, N, 2).
        times: (T,) or (B, T), strictly between 0 and 1.
        background: (B, T, 3, 3) maps from the coordinates at each time to the source's, or (B, 3, 3) for all times.
        variance: of the heatmaps.

    Returns:
        (B, T, K*N + 1 + (K + 1)*C, h, w).

    Raises:
        TypeError, ValueError: as `motion_features` and `anytime_keypoints`.
    """
    each_time = background is not None and background.ndim == 4
    bound = check_shapes(
        "anytime_motion_features",
        source=(source, "B C h w"),
        kp_source=(kp_source, "B K N 2"),
        kp_driving=(kp_driving, "B K N 2"),
        times=(times, "... T"),
        background=(background, "B T 3 3" if each_time else "B 3 3"),
    )
    check_splines("anytime_motion_features", bound)
    check_variance("anytime_motion_features", variance)
    kp_times = anytime_keypoints(kp_source, kp_driving, times)
    b, t = kp_times.shape[:2]
    if background is not None:
        background = (background if each_time else background[:, None].expand(b, t, 3, 3)).flatten(0, 1)
    features = motion_features(
        source[:, None].expand(b, t, *source.shape[1:]).flatten(0, 1),
        kp_times.flatten(0, 1),
        kp_source[:, None].expand_as(kp_times).flatten(0, 1),
        background,
        variance,
    )
    return features.unflatten(0, (b, t))


def anytime_warp(features: Sequence[Tensor], flow: Tensor, masks: Sequence[Tensor] | None = None) -> list[Tensor]:
    """`warp` each pyramid level by the flows of several times, the features of a sample shared by its times.

    Args:
        features: L tensors (B, C_l, H_l, W_l).
        flow: (B, T, h, w, 2).
        masks: L tensors (B, T, 1, H_l, W_l), or None.

    Returns:
        L tensors (B, T, C_l, H_l, W_l).

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or as many masks as features are not given.
    """
    if masks is not None and len(masks) != len(features):
        raise ValueError(f"anytime_warp: one mask for each of the {len(features)} levels is needed, got {len(masks)}")
    warped = []
    for level, level_features in enumerate(features):
        mask = None if masks is None else masks[level]
        bound = check_shapes(
            "anytime_warp",
            features=(level_features, "B C H W"),
            flow=(flow, "B T h w 2"),
            masks=(mask, "B T 1 _ _"),
        )
        b, t = bound["B"], bound["T"]
        mask = None if mask is None else mask.flatten(0, 1)
        repeated = level_features[:, None].expand(b, t, *level_features.shape[1:]).flatten(0, 1)
        warped.append(warp(repeated, flow.flatten(0, 1), mask).unflatten(0, (b, t)))
    return warped
