"""NaN, infinite, huge and denormal coordinates: finite results, no gradient there, and nothing read outside memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from ops.samples import keypoints, random_like
from torch import Tensor
from torch.testing import assert_close

from lami import ops

FAR = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38)
NEAR = (1e-45, -1e-42, 0.0, -0.0)
FEATURES = random_like((2, 3, 5, 6), 0).float()


def hostile(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Flow (2, h, w, 2) in which every third pixel has a far x, y or both, and (2, h, w) where."""
    flow = random_like((2, *size, 2), 1).float()
    pixels = flow.view(-1, 2)
    where = torch.zeros(len(pixels), dtype=torch.bool)
    for i in range(0, len(pixels), 3):
        values = torch.tensor([FAR[i % len(FAR)], FAR[(i // 3) % len(FAR)]])
        axes = torch.tensor([i % 2 == 0, i % 4 < 3])
        pixels[i] = torch.where(axes, values, pixels[i])
        where[i] = bool(axes.any())
    for i in range(1, len(pixels), 3):
        pixels[i, i % 2] = NEAR[i % len(NEAR)]
    return flow, where.view(2, *size)


def sample(op: str, flow: Tensor, features: Tensor, padding_mode: str = "zeros", align_corners: bool = True) -> Tensor:
    if op == "grid_sample":
        return ops.grid_sample(features, flow, padding_mode=padding_mode, align_corners=align_corners)
    if op == "warp":
        return ops.warp(features, flow, None, padding_mode, align_corners)
    return ops.anytime_warp([features], flow[:, None])[0][:, 0]


@pytest.mark.parametrize("op", ["warp", "anytime_warp"])
@pytest.mark.usefixtures("op")
def test_far_samples_are_padding_without_gradient(device: torch.device, op: str, backend: str) -> None:
    flow, far = (x.to(device) for x in hostile((5, 6)))
    features = FEATURES.to(device).requires_grad_()
    flow.requires_grad_()
    result = sample(op, flow, features)
    gradients = torch.autograd.grad(result.square().sum(), (features, flow))
    assert all(x.isfinite().all() for x in (result, *gradients))
    assert not result[far[:, None].expand_as(result)].any()
    assert not gradients[1][far].any()
    assert gradients[1][~far].any()


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("op", ["warp", "grid_sample"])
@pytest.mark.usefixtures("op")
def test_far_samples_with_padding(
    device: torch.device, op: str, backend: str, padding_mode: str, align_corners: bool
) -> None:
    """grid_sample of PyTorch itself may give NaN here: the fused ones must not."""
    if op == "grid_sample" and backend == "reference":
        pytest.skip("the reference of grid_sample is PyTorch's own")
    flow, far = (x.to(device) for x in hostile((5, 6)))
    features = FEATURES.to(device).requires_grad_()
    flow.requires_grad_()
    result = sample(op, flow, features, padding_mode, align_corners)
    gradients = torch.autograd.grad(result.square().sum(), (features, flow))
    assert all(x.isfinite().all() for x in (result, *gradients))
    limited = flow.detach().nan_to_num(nan=-1e4).clamp(-1e4, 1e4)
    with ops.use_backend("reference"):
        wanted = ops.warp(features, limited, None, padding_mode, align_corners)
    near = ~far[:, None].expand_as(result)
    # Reflection at 1e4 multiplies the rounding of the coordinate by the distance: those values need only be finite.
    assert_close(result[near], wanted[near], atol=1e-5, rtol=0)
    clamped = ~(flow.detach().abs() <= 1e4)
    assert not gradients[1][clamped].any()


@pytest.mark.parametrize("op", ["warp"])
@pytest.mark.usefixtures("op")
def test_far_flow_that_is_resized(device: torch.device, backend: str) -> None:
    flow = hostile((3, 4))[0].to(device).requires_grad_()
    mask = torch.full((2, 1, 2, 2), 1e30, device=device, requires_grad=True)
    result = ops.warp(FEATURES.to(device), flow, mask)
    gradients = torch.autograd.grad(result.sum(), (flow, mask))
    assert not result.isnan().any()
    assert not gradients[1].isnan().any()
    with ops.use_backend("reference"):
        wanted = ops.warp(FEATURES.to(device), flow, mask)
    assert_close(result, wanted, rtol=1e-3, atol=1e26)


KEYPOINTS = [math.nan, math.inf, 1e30, 1e-45]


def _spoilt(value: float, b: int = 1, k: int = 2, n: int = 5) -> Tensor:
    kp = keypoints(b, k, n)
    kp[0, 0, 0, 0] = value
    return kp


SPLINE_CALLS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "fit_tps": lambda bad, good: ops.fit_tps(bad, good),
    "tps_grid": lambda bad, good: ops.tps_grid(bad[..., :3, :].mT, bad, good, (4, 5)),
    "keypoint_heatmaps": lambda bad, good: ops.keypoint_heatmaps(bad[:, 0], good[:, 0], (4, 5)),
    "motion_features": lambda bad, good: ops.motion_features(torch.ones(1, 3, 4, 5, device=bad.device), bad, good),
    "blend_flow": lambda bad, good: ops.blend_flow(torch.ones(1, 3, 4, 5, device=bad.device), bad, good),
    "tps_warp": lambda bad, good: ops.tps_warp(
        torch.ones(1, 3, 4, 5, device=bad.device), torch.ones(1, 3, 4, 5, device=bad.device), bad, good
    ),
    "anytime_keypoints": lambda bad, good: ops.anytime_keypoints(bad, good, torch.tensor([0.5], device=bad.device)),
    "anytime_motion_features": lambda bad, good: ops.anytime_motion_features(
        torch.ones(1, 3, 4, 5, device=bad.device), bad, good, torch.tensor([0.5], device=bad.device)
    ),
}


@pytest.mark.parametrize("value", KEYPOINTS)
@pytest.mark.parametrize("op", SPLINE_CALLS)
@pytest.mark.usefixtures("op")
def test_spoilt_keypoints_return(device: torch.device, op: str, backend: str, value: float) -> None:
    """The spoilt spline may be NaN, as in PyTorch; the other spline, and what is sampled, are not."""
    bad, good = _spoilt(value).to(device).requires_grad_(), keypoints(1, 2, 5, 1).to(device)
    result = SPLINE_CALLS[op](bad, good)
    outputs = [result] if isinstance(result, Tensor) else list(result)  # type: ignore[call-overload]
    torch.autograd.grad([y.sum() for y in outputs if y.requires_grad], bad)
    if op == "fit_tps":
        assert all(y[:, 1].isfinite().all() for y in outputs)
    if op == "motion_features":
        assert outputs[0][:, 11:].isfinite().all()
    if op == "tps_warp":
        assert outputs[0].isfinite().all()
    if op == "anytime_keypoints":
        assert outputs[0][:, :, 1].isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("op", ["warp"])
@pytest.mark.usefixtures("op")
def test_spoilt_features_stay_where_they_are(device: torch.device, backend: str, value: float) -> None:
    features = torch.zeros(1, 1, 6, 6, device=device)
    features[0, 0, 0, 0] = value
    flow = torch.full((1, 6, 6, 2), 0.5, device=device)
    assert not ops.warp(features, flow).any()
