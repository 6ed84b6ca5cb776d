"""The reference ops against direct formulas, torch, and numbers of the TPSMM reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami import ops

CONTROL = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.05]])
VALUES = CONTROL + torch.tensor([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1], [0.05, 0.05]])

sides = st.integers(1, 9)
spline_counts = st.integers(1, 4)
point_counts = st.integers(3, 16)


def keypoints(b: int, k: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, k, n, 2, generator=generator, dtype=torch.float64).mul(1.6).sub(0.8).to(dtype)


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
    grid = pixel_grid(h, w, theta.dtype).expand(len(theta), h, w, 2)
    if background is not None:
        grid = torch.einsum("bij,bhwj->bhwi", background[:, :2], F.pad(grid, (0, 1), value=1.0))
    return torch.cat((grid[:, None], ops.tps_grid(theta, weights, kp_driving, (h, w))), dim=1)


# --- thin-plate splines


def test_fit_gives_the_reference_numbers() -> None:
    theta, weights = ops.fit_tps(CONTROL, VALUES)
    wanted = torch.tensor(
        [[-0.0079, -0.0033], [-0.0222, -0.0080], [-0.0253, -0.0197], [-0.0092, -0.0137], [0.0642, 0.0444]]
    )
    assert_close(theta, torch.tensor([[0.8831, -0.1010, 0.0437], [0.0954, 0.8861, 0.0303]]), atol=6e-5, rtol=0)
    assert_close(weights, wanted, atol=6e-5, rtol=0)
    centre = ops.tps_grid(theta, weights, CONTROL, (3, 3))[1, 1]
    assert_close(centre, torch.tensor([0.0626, 0.0433]), atol=6e-5, rtol=0)
    for c, v in zip(CONTROL, VALUES, strict=True):
        assert_close(spline(theta, weights, CONTROL, c), v, atol=6.5e-4, rtol=0)


def test_identity_fit_shrinks_the_affine_part_but_not_the_points() -> None:
    theta, weights = ops.fit_tps(CONTROL, CONTROL)
    assert_close(theta.diagonal(), torch.tensor([0.9864, 0.9864]), atol=6e-5, rtol=0)
    for c in CONTROL:
        assert_close(spline(theta, weights, CONTROL, c), c, atol=6e-5, rtol=0)


def test_fit_solves_the_regularised_system() -> None:
    n, control, values = 5, CONTROL.double(), VALUES.double()
    theta, weights = ops.fit_tps(control, values, regularization=0.3)
    system = torch.zeros(n + 3, n + 3, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            s = (control[i] - control[j]).square().sum()
            system[i, j] = s * torch.log(s + 1e-9)
        system[i, n:] = system[n:, i] = torch.tensor([*control[i], 1.0])
    system += 0.3 * torch.eye(n + 3, dtype=torch.float64)
    assert_close(system @ torch.cat((weights, theta.mT)), torch.cat((values, torch.zeros(3, 2, dtype=torch.float64))))


@given(k=spline_counts, n=point_counts, b=st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_driving_points_go_to_source_points(k: int, n: int, b: int) -> None:
    driving, source = keypoints(b, k, n, 1, torch.float64), keypoints(b, k, n, 2, torch.float64)
    theta, weights = ops.fit_tps(driving, source, regularization=0.0)
    assert theta.shape == (b, k, 2, 3)
    assert weights.shape == (b, k, n, 2)
    for i in range(b):
        mapped = torch.stack([spline(theta[i, 0], weights[i, 0], driving[i, 0], p) for p in driving[i, 0]])
        assert_close(mapped, source[i, 0], atol=1e-6, rtol=0)


@given(h=st.integers(2, 9), w=st.integers(2, 9), n=point_counts)
@settings(max_examples=25, deadline=None)
def test_grid_evaluates_the_spline_at_each_pixel(h: int, w: int, n: int) -> None:
    control = keypoints(1, 2, n, 3, torch.float64)
    theta, weights = ops.fit_tps(control, keypoints(1, 2, n, 4, torch.float64))
    grid = ops.tps_grid(theta, weights, control, (h, w))
    assert grid.shape == (1, 2, h, w, 2)
    pixels = pixel_grid(h, w, torch.float64)
    for y, x in ((0, 0), (h - 1, w // 2)):
        assert_close(grid[0, 1, y, x], spline(theta[0, 1], weights[0, 1], control[0, 1], pixels[y, x]))


def test_fit_broadcasts() -> None:
    values = torch.stack((VALUES, CONTROL))[:, None]
    theta, weights = ops.fit_tps(CONTROL, values)
    assert theta.shape == (2, 1, 2, 3)
    assert_close(theta[1, 0], ops.fit_tps(CONTROL, CONTROL)[0])
    assert ops.tps_grid(theta, weights, CONTROL, (4, 6)).shape == (2, 1, 4, 6, 2)


@pytest.mark.parametrize(
    ("given_dtype", "result"),
    [(torch.float64, torch.float64), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_fit_computes_in_at_least_fp32(given_dtype: torch.dtype, result: torch.dtype) -> None:
    control, values = CONTROL.to(given_dtype), VALUES.to(given_dtype)
    theta, weights = ops.fit_tps(control, values)
    assert theta.dtype == weights.dtype == result
    assert_close(theta, ops.fit_tps(control.to(result), values.to(result))[0], atol=0, rtol=0)
    assert ops.tps_grid(theta, weights, control, (4, 4)).dtype == result


def test_autocast_changes_nothing() -> None:
    driving, source, image = keypoints(1, 2, 5, 1), keypoints(1, 2, 5, 2), torch.rand(1, 3, 6, 8)
    logits, mask = torch.randn(1, 3, 6, 8), torch.rand(1, 1, 6, 8)

    def run() -> list[Tensor]:
        theta, weights = ops.fit_tps(driving, source)
        flow, contributions = ops.blend_flow(logits, driving, source, affine(1))
        return [
            theta,
            weights,
            ops.tps_grid(theta, weights, driving, (6, 8)),
            ops.keypoint_heatmaps(driving.flatten(1, 2), source.flatten(1, 2), (6, 8)),
            ops.motion_features(image, driving, source, affine(1)),
            flow,
            contributions,
            ops.warp(image, flow, mask),
        ]

    wanted = run()
    with torch.autocast("cpu", torch.bfloat16):
        results = run()
    for ours, plain in zip(results, wanted, strict=True):
        assert_close(ours, plain, atol=0, rtol=0)


def test_points_agree_with_the_grid() -> None:
    theta, weights = ops.fit_tps(CONTROL, VALUES)
    points = ops.tps_points(theta, weights, CONTROL, pixel_grid(3, 4).flatten(0, 1))
    assert_close(points.unflatten(0, (3, 4)), ops.tps_grid(theta, weights, CONTROL, (3, 4)))


# --- heatmaps, motion features


@given(h=st.integers(2, 9), w=st.integers(2, 9), p=st.integers(1, 7), b=st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_heatmaps_are_differences_of_gaussians(h: int, w: int, p: int, b: int) -> None:
    driving, source = keypoints(b, 1, p, 1)[:, 0], keypoints(b, 1, p, 2)[:, 0]
    maps = ops.keypoint_heatmaps(driving, source, (h, w), variance=0.02)
    assert maps.shape == (b, p + 1, h, w)
    assert not maps[:, 0].any()
    pixels = pixel_grid(h, w)
    for i in range(b):
        y, x = h - 1, w // 2
        for point in range(p):
            d, s = (kp[i, point].sub(pixels[y, x]).square().sum().item() for kp in (driving, source))
            wanted = math.exp(-d / 0.04) - math.exp(-s / 0.04)
            assert maps[i, point + 1, y, x].item() == pytest.approx(wanted, abs=1e-6)


@given(c=st.integers(1, 4), k=spline_counts, n=st.integers(3, 6), h=st.integers(2, 8), w=st.integers(2, 8))
@settings(max_examples=15, deadline=None)
def test_motion_features_are_heatmaps_then_warped_sources(c: int, k: int, n: int, h: int, w: int) -> None:
    b = 2
    source_image, driving, source = torch.rand(b, c, h, w), keypoints(b, k, n, 1), keypoints(b, k, n, 2)
    features = ops.motion_features(source_image, driving, source, affine(b), variance=0.03)
    assert features.shape == (b, k * n + 1 + (k + 1) * c, h, w)
    heatmaps = ops.keypoint_heatmaps(driving.flatten(1, 2), source.flatten(1, 2), (h, w), variance=0.03)
    assert_close(features[:, : k * n + 1], heatmaps)
    grids = all_grids(driving, source, affine(b), h, w)
    for motion in range(k + 1):
        first = k * n + 1 + motion * c
        wanted = F.grid_sample(source_image, grids[:, motion], align_corners=True)
        assert_close(features[:, first : first + c], wanted, atol=2e-4, rtol=0)


def test_without_background_the_first_warp_is_the_source_itself() -> None:
    image, kp = torch.rand(2, 3, 5, 7), keypoints(2, 1, 4)
    assert_close(ops.motion_features(image, kp, kp)[:, 5:8], image, atol=1e-5, rtol=0)


def test_features_keep_their_dtype() -> None:
    image, kp = torch.rand(1, 3, 8, 8), keypoints(1, 2, 5)
    assert ops.motion_features(image.half(), kp, kp).dtype == torch.float16
    assert ops.warp(image.bfloat16(), torch.zeros(1, 8, 8, 2)).dtype == torch.bfloat16
    assert ops.warp(image.double(), torch.zeros(1, 8, 8, 2)).dtype == torch.float64


# --- blending


@given(k=spline_counts, n=st.integers(3, 8), h=st.integers(2, 8), w=st.integers(2, 8), b=st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_flow_is_the_softmax_blend_of_all_motions(k: int, n: int, h: int, w: int, b: int) -> None:
    driving, source, logits = keypoints(b, k, n, 1), keypoints(b, k, n, 2), torch.randn(b, k + 1, h, w)
    flow, contributions = ops.blend_flow(logits, driving, source, affine(b))
    assert_close(contributions, logits.softmax(1))
    grids = all_grids(driving, source, affine(b), h, w)
    assert_close(flow, (contributions[..., None] * grids).sum(1), atol=1e-5, rtol=1e-5)


def test_projective_background_divides_by_the_third_coordinate() -> None:
    matrix = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]])
    kp, logits = keypoints(1, 1, 5), torch.tensor([200.0, 0.0])[None, :, None, None].expand(1, 2, 5, 4)
    assert_close(ops.blend_flow(logits, kp, kp, matrix)[0][0], pixel_grid(5, 4) / 2)


LOGITS = torch.tensor([0.0, 20.0, 1.0])[None, :, None, None].expand(1, 3, 2, 2)


@pytest.mark.parametrize(("mode", "total"), [("reference", 0.0076), ("corrected", 1.0)])
def test_dropping_the_winner(mode: str, total: float) -> None:
    kp, keep = keypoints(1, 2, 5), torch.tensor([[True, False, True]])
    _, contributions = ops.blend_flow(LOGITS, kp, kp, keep=keep, dropout=mode)
    assert_close(contributions.sum(1), torch.full((1, 2, 2), total), atol=5e-5, rtol=0)
    assert not contributions[:, 1].any()
    assert_close(contributions[:, 2] / contributions[:, 0], torch.full((1, 2, 2), math.e))


def test_keeping_everything_is_a_softmax() -> None:
    kp, logits, keep = keypoints(2, 2, 5), torch.randn(2, 3, 4, 4), torch.ones(2, 3, dtype=torch.bool)
    plain = ops.blend_flow(logits, kp, kp)[1]
    assert_close(ops.blend_flow(logits, kp, kp, keep=keep, dropout="corrected")[1], plain)
    assert_close(ops.blend_flow(logits, kp, kp, keep=keep, dropout="reference")[1], plain, atol=1e-6, rtol=0)


# --- warping


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_warp_is_grid_sample_of_the_resized_flow(padding_mode: str, align_corners: bool) -> None:
    features, flow, mask = torch.rand(2, 3, 12, 10), torch.rand(2, 5, 4, 2) * 3 - 1.5, torch.rand(2, 1, 3, 6)

    def resize(x: Tensor) -> Tensor:
        return F.interpolate(x, (12, 10), mode="bilinear", align_corners=True)

    wanted = F.grid_sample(
        features, resize(flow.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), "bilinear", padding_mode, align_corners
    )
    assert_close(ops.warp(features, flow, None, padding_mode, align_corners), wanted)
    assert_close(ops.warp(features, flow, mask, padding_mode, align_corners), wanted * resize(mask))


@given(h=sides, w=sides, flow_h=sides, flow_w=sides, c=st.integers(0, 3), b=st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_warp_takes_any_size(h: int, w: int, flow_h: int, flow_w: int, c: int, b: int) -> None:
    result = ops.warp(torch.ones(b, c, h, w), torch.zeros(b, flow_h, flow_w, 2), torch.full((b, 1, 1, 1), 0.5))
    assert_close(result, torch.full((b, c, h, w), 0.5))


def test_warp_shifts_by_whole_pixels() -> None:
    image = torch.arange(20.0).view(1, 1, 4, 5)
    flow = pixel_grid(4, 5)[None] + torch.tensor([2 / 4, 0.0])
    assert_close(ops.warp(image, flow)[0, 0, :, :4], image[0, 0, :, 1:], atol=1e-5, rtol=0)
    assert_close(ops.warp(image, flow)[0, 0, :, 4], torch.zeros(4), atol=1e-4, rtol=0)


def test_warp_takes_channels_last_and_other_strides() -> None:
    features, flow = torch.rand(2, 3, 6, 8), torch.rand(2, 6, 8, 2) * 2 - 1
    wanted = ops.warp(features, flow)
    assert_close(ops.warp(features.to(memory_format=torch.channels_last), flow), wanted)
    assert_close(ops.warp(features.mT.contiguous().mT, flow.flip(0).flip(0)), wanted)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_is_torchs(mode: str) -> None:
    image, grid = torch.rand(1, 2, 5, 6), torch.rand(1, 3, 4, 2) * 2.4 - 1.2
    for arguments in ((mode, "zeros", False), (mode, "border", True), (mode, "reflection", True)):
        assert_close(ops.grid_sample(image, grid, *arguments), F.grid_sample(image, grid, *arguments), atol=0, rtol=0)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -1e30, 3e9])
def test_wild_flows_read_outside_and_have_no_gradient(value: float, padding_mode: str) -> None:
    image, flow = torch.rand(1, 2, 4, 16) + 1, pixel_grid(4, 16)[None].clone()
    flow[0, 1, 3, 0] = value
    image.requires_grad_()
    flow.requires_grad_()
    result = ops.warp(image, flow, padding_mode=padding_mode)
    to_image, to_flow = torch.autograd.grad(result.sum(), (image, flow))
    row = torch.zeros(1) if padding_mode == "zeros" else image[0, 0, 1]
    assert row.min() - 1e-4 <= result[0, 0, 1, 3] <= row.max() + 1e-4
    assert not to_flow[0, 1, 3, 0]
    assert padding_mode != "zeros" or not to_flow[0, 1, 3].any()
    assert to_image.isfinite().all()
    elsewhere = torch.ones(4, 16, dtype=torch.bool)
    elsewhere[1, 3] = False
    assert_close(result[..., elsewhere], image[..., elsewhere], atol=1e-5, rtol=0)


def test_motion_features_of_wild_keypoints_are_safe() -> None:
    image, kp = torch.rand(1, 3, 4, 16), keypoints(1, 2, 5)
    kp[0, 0, 0, 0], kp[0, 1, 0, 0] = 1e30, math.nan
    features = ops.motion_features(image, kp, keypoints(1, 2, 5, 1))
    assert_close(features[:, 11:14], image, atol=1e-5, rtol=0)
    assert not features[:, 17:].any()


# --- several times

TIMES = torch.tensor([[0.1, 0.5, 0.8], [0.3, 0.6, 0.9]])


@pytest.mark.parametrize("times", [TIMES, TIMES[0]])
def test_anytime_ops_are_loops_over_times(times: Tensor) -> None:
    source, driving, image = keypoints(2, 2, 5, 1), keypoints(2, 2, 5, 2), torch.rand(2, 3, 6, 8)
    background = torch.stack([affine(2), affine(2).flip(0), torch.eye(3).expand(2, 3, 3)], dim=1)
    moved = ops.anytime_keypoints(source, driving, times)
    each = ops.anytime_motion_features(image, source, driving, times, background)
    shared = ops.anytime_motion_features(image, source, driving, times, background[:, 0])
    flow, levels = torch.rand(2, 3, 5, 7, 2) * 2 - 1, [torch.rand(2, 4, 3, 4), image]
    masks = [torch.rand(2, 3, 1, 3, 4), torch.rand(2, 3, 1, 6, 8)]
    warped, unmasked = ops.anytime_warp(levels, flow, masks), ops.anytime_warp(levels, flow)
    assert moved.shape == (2, 3, 2, 5, 2)
    assert each.shape == (2, 3, 20, 6, 8)
    for i in range(3):
        t = times.expand(2, 3)[:, i, None, None, None]
        at_time = (1 - t) * source + t * driving
        assert_close(moved[:, i], at_time)
        assert_close(each[:, i], ops.motion_features(image, at_time, source, background[:, i]), atol=1e-5, rtol=0)
        assert_close(shared[:, i], ops.motion_features(image, at_time, source, background[:, 0]), atol=1e-5, rtol=0)
        for level, features in enumerate(levels):
            assert_close(warped[level][:, i], ops.warp(features, flow[:, i], masks[level][:, i]))
            assert_close(unmasked[level][:, i], ops.warp(features, flow[:, i]))


def test_empty_batches() -> None:
    kp, image, none = keypoints(0, 2, 5), torch.rand(0, 3, 6, 8), torch.rand(0, 3, 3)
    assert ops.fit_tps(kp, kp)[0].shape == (0, 2, 2, 3)
    assert ops.motion_features(image, kp, kp, none).shape == (0, 20, 6, 8)
    assert ops.blend_flow(torch.rand(0, 3, 6, 8), kp, kp, none)[0].shape == (0, 6, 8, 2)
    assert ops.anytime_keypoints(kp, kp, torch.tensor([0.5])).shape == (0, 1, 2, 5, 2)
    assert ops.anytime_motion_features(image, kp, kp, torch.tensor([0.2, 0.5]), none).shape == (0, 2, 20, 6, 8)
    assert ops.anytime_warp([image], torch.rand(0, 2, 4, 4, 2))[0].shape == (0, 2, 3, 6, 8)


# --- gradients

SOURCE, DRIVING = keypoints(1, 2, 4, 1, torch.float64), keypoints(1, 2, 4, 2, torch.float64)
IMAGE = torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FLOW = torch.rand(1, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (ops.fit_tps, (DRIVING, SOURCE)),
        (lambda kp, v: ops.tps_grid(*ops.fit_tps(kp, v), kp, (3, 4)), (DRIVING, SOURCE)),
        (lambda *kp: ops.keypoint_heatmaps(*kp, (3, 4), variance=0.1), (DRIVING[0], SOURCE[0])),
        (ops.motion_features, (IMAGE, DRIVING, SOURCE, affine(1, torch.float64))),
        (ops.blend_flow, (IMAGE.repeat(1, 2, 1, 1)[:, :3], DRIVING, SOURCE, affine(1, torch.float64))),
        (ops.warp, (IMAGE, FLOW, IMAGE[:, :1, :2, :2])),
        (lambda s, d, t: ops.anytime_keypoints(s, d, t), (SOURCE, DRIVING, TIMES[0].double())),
    ],
)
def test_gradients(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
    assert torch.autograd.gradcheck(function, [x.clone().requires_grad_() for x in inputs], fast_mode=True)


# --- bad input


KP, FEATURES, GRID = keypoints(2, 3, 5), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 2)
MAPS = torch.zeros(2, 4, 4, 4)

BAD = {
    "fit_tps: control_points must have shape": lambda: ops.fit_tps(CONTROL.T, VALUES),
    "fit_tps: values must have shape (..., N, 2) with N=5, got (4, 2)": lambda: ops.fit_tps(CONTROL, VALUES[:4]),
    "fit_tps: a spline takes 3 to 16 control points, got 2": lambda: ops.fit_tps(CONTROL[:2], VALUES[:2]),
    "fit_tps: a spline takes 3 to 16 control points, got 17": lambda: ops.fit_tps(torch.rand(17, 2), torch.rand(17, 2)),
    "fit_tps: control_points must be floating point, got torch.int64": lambda: ops.fit_tps(CONTROL.long(), VALUES),
    "fit_tps: values must be a tensor, got list": lambda: ops.fit_tps(CONTROL, VALUES.tolist()),
    "fit_tps: values is on meta but control_points is on cpu": lambda: ops.fit_tps(CONTROL, VALUES.to("meta")),
    "fit_tps: batch dimensions must broadcast against each other, got control_points (2,), values (3,)": lambda: (
        ops.fit_tps(CONTROL.expand(2, 5, 2), VALUES.expand(3, 5, 2))
    ),
    "tps_grid: theta must have shape (..., 2, 3)": lambda: ops.tps_grid(torch.eye(3), VALUES, CONTROL, (2, 2)),
    "tps_grid: control_points must have shape (..., N, 2) with N=5": lambda: ops.tps_grid(
        torch.zeros(2, 3), VALUES, CONTROL[:3], (2, 2)
    ),
    "tps_grid: batch dimensions must broadcast against each other, got theta (2,), weights (3,)": lambda: ops.tps_grid(
        torch.zeros(2, 2, 3), VALUES.expand(3, 5, 2), CONTROL, (2, 2)
    ),
    "tps_points: points must have shape (..., P, 2), got (2,)": lambda: ops.tps_points(
        torch.zeros(2, 3), VALUES, CONTROL, CONTROL[0]
    ),
    "tps_points: batch dimensions must broadcast against each other, got theta (2,)": lambda: ops.tps_points(
        torch.zeros(2, 2, 3), VALUES, CONTROL, CONTROL.expand(3, 5, 2)
    ),
    "tps_grid: size must be (height, width), got (2, 2, 2)": lambda: ops.tps_grid(
        torch.zeros(2, 3), VALUES, CONTROL, (2, 2, 2)
    ),
    "keypoint_heatmaps: kp_source must have shape (B, P, 2) with B=2, P=3": lambda: ops.keypoint_heatmaps(
        KP[:, :, 0], KP[:, :2, 0], (4, 4)
    ),
    "keypoint_heatmaps: size must be (height, width), got (-1, 4)": lambda: ops.keypoint_heatmaps(
        KP[:, 0], KP[:, 0], (-1, 4)
    ),
    "keypoint_heatmaps: variance must be positive, got 0": lambda: ops.keypoint_heatmaps(
        KP[:, 0], KP[:, 0], (4, 4), variance=0
    ),
    "motion_features: source must have shape (B, C, h, w)": lambda: ops.motion_features(FEATURES[0], KP, KP),
    "motion_features: kp_source must have shape (B, K, N, 2) with B=2, K=3, N=5": lambda: ops.motion_features(
        FEATURES, KP, KP[:, :2]
    ),
    "motion_features: background must have shape (B, 3, 3) with B=2": lambda: ops.motion_features(
        FEATURES, KP, KP, torch.zeros(2, 2, 3)
    ),
    "motion_features: a spline takes 3 to 16": lambda: ops.motion_features(FEATURES, KP[:, :, :2], KP[:, :, :2]),
    "motion_features: variance must be positive, got -1.0": lambda: ops.motion_features(
        FEATURES, KP, KP, variance=-1.0
    ),
    "blend_flow: logits must have K + 1 = 4 channels for K = 3 splines, got 3": lambda: ops.blend_flow(
        FEATURES, KP, KP
    ),
    "blend_flow: keep must be bool of shape (2, 4), got torch.float32 (2, 4)": lambda: ops.blend_flow(
        MAPS, KP, KP, keep=torch.ones(2, 4)
    ),
    "blend_flow: keep must be bool of shape (2, 4), got torch.bool (4, 2)": lambda: ops.blend_flow(
        MAPS, KP, KP, keep=torch.ones(4, 2, dtype=torch.bool)
    ),
    "blend_flow: dropout must be 'reference' or 'corrected', got 'none'": lambda: ops.blend_flow(
        MAPS, KP, KP, dropout="none"
    ),
    "warp: flow must have shape (B, h, w, 2) with B=2": lambda: ops.warp(FEATURES, GRID[:1]),
    "warp: mask must have shape (B, 1, _, _) with B=2": lambda: ops.warp(FEATURES, GRID, FEATURES),
    "warp: padding_mode must be zeros, border or reflection, got 'wrap'": lambda: ops.warp(
        FEATURES, GRID, padding_mode="wrap"
    ),
    "anytime_keypoints: kp_driving must have shape (B, K, N, 2) with B=2": lambda: ops.anytime_keypoints(
        KP, KP[:1], TIMES
    ),
    "anytime_keypoints: times must have shape (T,) or (2, T) with T >= 1, got (0,)": lambda: ops.anytime_keypoints(
        KP, KP, torch.zeros(0)
    ),
    "anytime_keypoints: times must have shape (T,) or (2, T) with T >= 1, got (3, 1)": lambda: ops.anytime_keypoints(
        KP, KP, torch.full((3, 1), 0.5)
    ),
    "anytime_keypoints: times must have shape (..., T), got ()": lambda: ops.anytime_keypoints(
        KP, KP, torch.tensor(0.5)
    ),
    "anytime_keypoints: times must lie strictly between 0 and 1, got [0.0]": lambda: ops.anytime_keypoints(
        KP, KP, torch.zeros(1)
    ),
    "anytime_keypoints: times must lie strictly between 0 and 1, got [nan]": lambda: ops.anytime_keypoints(
        KP, KP, torch.tensor([math.nan])
    ),
    "anytime_motion_features: background must have shape": lambda: ops.anytime_motion_features(
        FEATURES, KP, KP, TIMES, torch.zeros(2, 2, 3, 3)
    ),
    "anytime_motion_features: source must have shape (B, C, h, w), got (3, 4, 4)": lambda: ops.anytime_motion_features(
        FEATURES[0], KP, KP, TIMES
    ),
    "anytime_motion_features: kp_source must have shape (B, K, N, 2) with B=1": lambda: ops.anytime_motion_features(
        FEATURES[:1], KP, KP, TIMES
    ),
    "anytime_warp: flow must have shape (B, T, h, w, 2) with B=2": lambda: ops.anytime_warp([FEATURES], GRID),
    "anytime_warp: features must have shape (B, C, H, W)": lambda: ops.anytime_warp([KP[..., 0]], GRID[:, None]),
    "anytime_warp: one mask for each of the 1 levels is needed, got 0": lambda: ops.anytime_warp(
        [FEATURES], GRID[:, None], []
    ),
    "anytime_warp: masks must have shape (B, T, 1, _, _) with B=2, T=1": lambda: ops.anytime_warp(
        [FEATURES], GRID[:, None], [torch.zeros(2, 2, 1, 4, 4)]
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named_in_one_sentence(message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        BAD[message]()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
