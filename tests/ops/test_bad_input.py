"""Wrong calls raise one sentence that names the op, the argument, what it got and what it wants; eager and compiled."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from ops.samples import CONTROL, VALUES, keypoints

from lami import ops

KP, POINTS = keypoints(2, 3, 5), keypoints(2, 1, 5)[:, 0]
FEATURES, MAPS = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4)
GRID, FLOWS = torch.zeros(2, 4, 4, 2), torch.zeros(2, 1, 4, 4, 2)
BACKGROUND, KEEP = torch.eye(3).expand(2, 3, 3), torch.ones(2, 4, dtype=torch.bool)
HALF = torch.tensor([0.5])
THETA = torch.zeros(2, 3)

BAD: list[tuple[str, Callable[[], Any]]] = [
    # fit_tps
    ("fit_tps: control_points must have shape (..., N, 2), got (2, 5)", lambda: ops.fit_tps(CONTROL.T, VALUES)),
    ("fit_tps: control_points must have shape (..., N, 2), got (2,)", lambda: ops.fit_tps(CONTROL[0], VALUES)),
    ("fit_tps: values must have shape (..., N, 2) with N=5, got (4, 2)", lambda: ops.fit_tps(CONTROL, VALUES[:4])),
    ("fit_tps: a spline takes 3 to 16 control points, got 2", lambda: ops.fit_tps(CONTROL[:2], VALUES[:2])),
    (
        "fit_tps: a spline takes 3 to 16 control points, got 17",
        lambda: ops.fit_tps(torch.zeros(17, 2), torch.zeros(17, 2)),
    ),
    (
        "fit_tps: control_points must be floating point, got torch.int64; convert it with .float()",
        lambda: ops.fit_tps(CONTROL.long(), VALUES),
    ),
    (
        "fit_tps: values must be floating point, got torch.bool; convert it with .float()",
        lambda: ops.fit_tps(CONTROL, VALUES > 0),
    ),
    (
        "fit_tps: values must be floating point, got torch.complex64; convert it with .float()",
        lambda: ops.fit_tps(CONTROL, VALUES.to(torch.complex64)),
    ),
    ("fit_tps: values must be a tensor, got list", lambda: ops.fit_tps(CONTROL, [[0.0, 0.0]])),
    (
        "fit_tps: values is on meta but control_points is on cpu; move them to one device",
        lambda: ops.fit_tps(CONTROL, VALUES.to("meta")),
    ),
    (
        "fit_tps: batch dimensions must broadcast against each other, got control_points (2,), values (3,)",
        lambda: ops.fit_tps(CONTROL.expand(2, 5, 2), VALUES.expand(3, 5, 2)),
    ),
    # tps_grid, tps_points
    (
        "tps_grid: theta must have shape (..., 2, 3), got (3, 3)",
        lambda: ops.tps_grid(torch.eye(3), VALUES, CONTROL, (2, 2)),
    ),
    (
        "tps_grid: control_points must have shape (..., N, 2) with N=5, got (3, 2)",
        lambda: ops.tps_grid(THETA, VALUES, CONTROL[:3], (2, 2)),
    ),
    (
        "tps_grid: weights must have shape (..., N, 2), got (5, 1)",
        lambda: ops.tps_grid(THETA, VALUES[:, :1], CONTROL, (2, 2)),
    ),
    (
        "tps_grid: theta must be floating point, got torch.int32; convert it with .float()",
        lambda: ops.tps_grid(THETA.int(), VALUES, CONTROL, (2, 2)),
    ),
    (
        "tps_grid: control_points is on meta but weights is on cpu; move them to one device",
        lambda: ops.tps_grid(THETA, VALUES, CONTROL.to("meta"), (2, 2)),
    ),
    (
        "tps_grid: batch dimensions must broadcast against each other, got theta (2,), weights (3,), control_points ()",
        lambda: ops.tps_grid(THETA.expand(2, 2, 3), VALUES.expand(3, 5, 2), CONTROL, (2, 2)),
    ),
    ("tps_grid: size must be (height, width), got (2, 2, 2)", lambda: ops.tps_grid(THETA, VALUES, CONTROL, (2, 2, 2))),
    ("tps_grid: size must be (height, width), got (2, -1)", lambda: ops.tps_grid(THETA, VALUES, CONTROL, (2, -1))),
    (
        "tps_points: points must have shape (..., P, 2), got (2,)",
        lambda: ops.tps_points(THETA, VALUES, CONTROL, CONTROL[0]),
    ),
    (
        "tps_points: batch dimensions must broadcast against each other, "
        "got theta (2,), weights (), control_points (), points (3,)",
        lambda: ops.tps_points(THETA.expand(2, 2, 3), VALUES, CONTROL, CONTROL.expand(3, 5, 2)),
    ),
    # keypoint_heatmaps
    (
        "keypoint_heatmaps: kp_source must have shape (B, P, 2) with B=2, P=5, got (2, 2, 2)",
        lambda: ops.keypoint_heatmaps(POINTS, POINTS[:, :2], (4, 4)),
    ),
    (
        "keypoint_heatmaps: kp_driving must have shape (B, P, 2), got (2, 3, 5, 2)",
        lambda: ops.keypoint_heatmaps(KP, KP, (4, 4)),
    ),
    (
        "keypoint_heatmaps: kp_source must have shape (B, P, 2) with B=2, P=5, got (1, 5, 2)",
        lambda: ops.keypoint_heatmaps(POINTS, POINTS[:1], (4, 4)),
    ),
    (
        "keypoint_heatmaps: size must be (height, width), got (-1, 4)",
        lambda: ops.keypoint_heatmaps(POINTS, POINTS, (-1, 4)),
    ),
    ("keypoint_heatmaps: size must be (height, width), got (4,)", lambda: ops.keypoint_heatmaps(POINTS, POINTS, (4,))),
    (
        "keypoint_heatmaps: variance must be positive, got 0",
        lambda: ops.keypoint_heatmaps(POINTS, POINTS, (4, 4), variance=0),
    ),
    (
        "keypoint_heatmaps: variance must be positive, got nan",
        lambda: ops.keypoint_heatmaps(POINTS, POINTS, (4, 4), variance=math.nan),
    ),
    (
        "keypoint_heatmaps: kp_source must be a tensor, got NoneType",
        lambda: ops.keypoint_heatmaps(POINTS, None, (4, 4)),
    ),
    # motion_features
    (
        "motion_features: source must have shape (B, C, h, w), got (3, 4, 4)",
        lambda: ops.motion_features(FEATURES[0], KP, KP),
    ),
    (
        "motion_features: kp_source must have shape (B, K, N, 2) with B=2, K=3, N=5, got (2, 2, 5, 2)",
        lambda: ops.motion_features(FEATURES, KP, KP[:, :2]),
    ),
    (
        "motion_features: kp_source must have shape (B, K, N, 2) with B=2, K=3, N=5, got (2, 3, 4, 2)",
        lambda: ops.motion_features(FEATURES, KP, KP[:, :, :4]),
    ),
    (
        "motion_features: kp_driving must have shape (B, K, N, 2) with B=1, got (2, 3, 5, 2)",
        lambda: ops.motion_features(FEATURES[:1], KP, KP),
    ),
    (
        "motion_features: background must have shape (B, 3, 3) with B=2, got (2, 2, 3)",
        lambda: ops.motion_features(FEATURES, KP, KP, torch.zeros(2, 2, 3)),
    ),
    (
        "motion_features: background must have shape (B, 3, 3) with B=2, got (1, 3, 3)",
        lambda: ops.motion_features(FEATURES, KP, KP, torch.zeros(1, 3, 3)),
    ),
    (
        "motion_features: a spline takes 3 to 16 control points, got 2",
        lambda: ops.motion_features(FEATURES, KP[:, :, :2], KP[:, :, :2]),
    ),
    (
        "motion_features: variance must be positive, got -1.0",
        lambda: ops.motion_features(FEATURES, KP, KP, variance=-1.0),
    ),
    (
        "motion_features: source must be floating point, got torch.uint8; convert it with .float()",
        lambda: ops.motion_features(FEATURES.byte(), KP, KP),
    ),
    (
        "motion_features: background is on meta but kp_source is on cpu; move them to one device",
        lambda: ops.motion_features(FEATURES, KP, KP, BACKGROUND.to("meta")),
    ),
    (
        "motion_features: keypoints must form at least one spline, got K = 0",
        lambda: ops.motion_features(FEATURES, KP[:, :0], KP[:, :0]),
    ),
    ("motion_features: source must be a tensor, got NoneType", lambda: ops.motion_features(None, KP, KP)),
    # blend_flow
    (
        "blend_flow: logits must have K + 1 = 4 channels for K = 3 splines, got 3",
        lambda: ops.blend_flow(FEATURES, KP, KP),
    ),
    ("blend_flow: logits must have shape (B, M, h, w), got (4, 4, 4)", lambda: ops.blend_flow(MAPS[0], KP, KP)),
    (
        "blend_flow: kp_driving is on meta but logits is on cpu; move them to one device",
        lambda: ops.blend_flow(MAPS, KP.to("meta"), KP.to("meta")),
    ),
    (
        "blend_flow: a spline takes 3 to 16 control points, got 17",
        lambda: ops.blend_flow(MAPS, torch.zeros(2, 3, 17, 2), torch.zeros(2, 3, 17, 2)),
    ),
    (
        "blend_flow: background must have shape (B, 3, 3) with B=2, got (3, 3)",
        lambda: ops.blend_flow(MAPS, KP, KP, torch.eye(3)),
    ),
    (
        "blend_flow: keep must be bool of shape (2, 4), got torch.float32 (2, 4)",
        lambda: ops.blend_flow(MAPS, KP, KP, keep=torch.ones(2, 4)),
    ),
    (
        "blend_flow: keep must be bool of shape (2, 4), got torch.bool (4, 2)",
        lambda: ops.blend_flow(MAPS, KP, KP, keep=KEEP.T),
    ),
    ("blend_flow: keep must be a tensor, got list", lambda: ops.blend_flow(MAPS, KP, KP, keep=[True] * 4)),
    (
        "blend_flow: keep is on meta but logits is on cpu; move them to one device",
        lambda: ops.blend_flow(MAPS, KP, KP, keep=KEEP.to("meta")),
    ),
    (
        "blend_flow: dropout must be 'reference' or 'corrected', got 'none'",
        lambda: ops.blend_flow(MAPS, KP, KP, dropout="none"),
    ),
    # warp
    ("warp: flow must have shape (B, h, w, 2) with B=2, got (1, 4, 4, 2)", lambda: ops.warp(FEATURES, GRID[:1])),
    (
        "warp: flow must have shape (B, h, w, 2) with B=2, got (2, 2, 4, 4)",
        lambda: ops.warp(FEATURES, GRID.movedim(-1, 1)),
    ),
    ("warp: features must have shape (B, C, H, W), got (3, 4, 4)", lambda: ops.warp(FEATURES[0], GRID)),
    ("warp: mask must have shape (B, 1, _, _) with B=2, got (2, 3, 4, 4)", lambda: ops.warp(FEATURES, GRID, FEATURES)),
    (
        "warp: mask must have shape (B, 1, _, _) with B=2, got (2, 4, 4)",
        lambda: ops.warp(FEATURES, GRID, torch.ones(2, 4, 4)),
    ),
    (
        "warp: mask must be floating point, got torch.bool; convert it with .float()",
        lambda: ops.warp(FEATURES, GRID, torch.ones(2, 1, 4, 4, dtype=torch.bool)),
    ),
    (
        "warp: flow is on meta but features is on cpu; move them to one device",
        lambda: ops.warp(FEATURES, GRID.to("meta")),
    ),
    (
        "warp: padding_mode must be zeros, border or reflection, got 'wrap'",
        lambda: ops.warp(FEATURES, GRID, padding_mode="wrap"),
    ),
    (
        "warp: flow of size (0, 4) cannot be resized to (4, 4); it needs at least one pixel",
        lambda: ops.warp(FEATURES, GRID[:, :0]),
    ),
    (
        "warp: mask of size (4, 0) cannot be resized to (4, 4); it needs at least one pixel",
        lambda: ops.warp(FEATURES, GRID, torch.ones(2, 1, 4, 0)),
    ),
    # tps_warp
    (
        "tps_warp: logits must have shape (B, M, h, w) with B=1, got (2, 4, 4, 4)",
        lambda: ops.tps_warp(FEATURES[:1], MAPS, KP, KP),
    ),
    (
        "tps_warp: logits must have K + 1 = 4 channels for K = 3 splines, got 3",
        lambda: ops.tps_warp(FEATURES, FEATURES, KP, KP),
    ),
    (
        "tps_warp: dropout must be 'reference' or 'corrected', got 'hard'",
        lambda: ops.tps_warp(FEATURES, MAPS, KP, KP, dropout="hard"),
    ),
    (
        "tps_warp: logits of size (0, 4) cannot be resized to (4, 4); it needs at least one pixel",
        lambda: ops.tps_warp(FEATURES, MAPS[:, :, :0], KP, KP),
    ),
    # several times
    (
        "anytime_keypoints: kp_driving must have shape (B, K, N, 2) with B=2, K=3, N=5, got (1, 3, 5, 2)",
        lambda: ops.anytime_keypoints(KP, KP[:1], HALF),
    ),
    (
        "anytime_keypoints: times must have shape (T,) or (2, T) with T >= 1, got (0,)",
        lambda: ops.anytime_keypoints(KP, KP, torch.zeros(0)),
    ),
    (
        "anytime_keypoints: times must have shape (T,) or (2, T) with T >= 1, got (3, 1)",
        lambda: ops.anytime_keypoints(KP, KP, HALF.expand(3, 1)),
    ),
    (
        "anytime_keypoints: times must have shape (..., T), got ()",
        lambda: ops.anytime_keypoints(KP, KP, torch.tensor(0.5)),
    ),
    (
        "anytime_keypoints: times must have shape (T,) or (2, T) with T >= 1, got (1, 2, 1)",
        lambda: ops.anytime_keypoints(KP, KP, HALF.expand(1, 2, 1)),
    ),
    ("anytime_keypoints: times must be a tensor, got float", lambda: ops.anytime_keypoints(KP, KP, 0.5)),
    (
        "anytime_keypoints: times must be floating point, got torch.int64; convert it with .float()",
        lambda: ops.anytime_keypoints(KP, KP, torch.tensor([1])),
    ),
    (
        "anytime_motion_features: source must have shape (B, C, h, w), got (3, 4, 4)",
        lambda: ops.anytime_motion_features(FEATURES[0], KP, KP, HALF),
    ),
    (
        "anytime_motion_features: kp_source must have shape (B, K, N, 2) with B=1, got (2, 3, 5, 2)",
        lambda: ops.anytime_motion_features(FEATURES[:1], KP, KP, HALF),
    ),
    (
        "anytime_motion_features: background must have shape (B, T, 3, 3) with B=2, T=1, got (2, 2, 3, 3)",
        lambda: ops.anytime_motion_features(FEATURES, KP, KP, HALF, torch.zeros(2, 2, 3, 3)),
    ),
    (
        "anytime_motion_features: variance must be positive, got 0.0",
        lambda: ops.anytime_motion_features(FEATURES, KP, KP, HALF, variance=0.0),
    ),
    (
        "anytime_motion_features: a spline takes 3 to 16 control points, got 2",
        lambda: ops.anytime_motion_features(FEATURES, KP[:, :, :2], KP[:, :, :2], HALF),
    ),
    (
        "anytime_warp: flow must have shape (B, T, h, w, 2) with B=2, got (2, 4, 4, 2)",
        lambda: ops.anytime_warp([FEATURES], GRID),
    ),
    (
        "anytime_warp: features must have shape (B, C, H, W), got (3, 4, 4)",
        lambda: ops.anytime_warp([FEATURES[0]], FLOWS),
    ),
    (
        "anytime_warp: one mask for each of the 1 levels is needed, got 0",
        lambda: ops.anytime_warp([FEATURES], FLOWS, []),
    ),
    (
        "anytime_warp: masks must have shape (B, T, 1, _, _) with B=2, T=1, got (2, 2, 1, 4, 4)",
        lambda: ops.anytime_warp([FEATURES], FLOWS, [torch.zeros(2, 2, 1, 4, 4)]),
    ),
    ("anytime_warp: masks must be a tensor, got NoneType", lambda: ops.anytime_warp([FEATURES], FLOWS, [None])),
    (
        "anytime_warp: flow of size (0, 4) cannot be resized to (4, 4); it needs at least one pixel",
        lambda: ops.anytime_warp([FEATURES], FLOWS[:, :, :0]),
    ),
]


OUTSIDE = [torch.zeros(1), torch.ones(1), torch.tensor([0.5, 1.5]), torch.tensor([-0.1]), torch.tensor([math.nan])]


@pytest.mark.parametrize(("sentence", "call"), BAD, ids=[sentence for sentence, _ in BAD])
def test_wrong_calls_say_what_is_wrong(sentence: str, call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("sentence", "call"), BAD, ids=[sentence for sentence, _ in BAD])
def test_wrong_calls_say_so_while_compiling(sentence: str, call: Callable[[], Any]) -> None:
    with pytest.raises(Exception, match=re.escape(sentence)):
        torch.compile(call, fullgraph=True, backend="eager")()


def test_sentences_are_single_and_complete() -> None:
    assert len(BAD) >= 60
    assert all("\n" not in sentence and ": " in sentence for sentence, _ in BAD)


@pytest.mark.parametrize("times", OUTSIDE)
def test_times_lie_between_source_and_driving(times: torch.Tensor) -> None:
    for call in (ops.anytime_keypoints, partial(ops.anytime_motion_features, FEATURES)):
        with pytest.raises(ValueError, match="times must lie strictly between 0 and 1, got") as caught:
            call(KP, KP, times)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("times", OUTSIDE)
def test_times_are_checked_in_compiled_code(times: torch.Tensor) -> None:
    torch.compiler.reset()
    compiled = torch.compile(ops.anytime_keypoints, fullgraph=True, backend="eager")
    with pytest.raises(RuntimeError, match="anytime_keypoints: times must lie strictly between 0 and 1"):
        compiled(KP, KP, times)


def test_a_backend_has_to_exist() -> None:
    sentence = "the backend must be one of reference, native, triton, got 'cuda'; choose one of these"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"), ops.use_backend("cuda"):
        pytest.fail("the context was entered")
