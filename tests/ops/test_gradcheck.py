"""Gradients of the fused ops against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from ops.samples import affine, keypoints, random_like
from torch import Tensor

from lami import ops

F64 = torch.float64
SOURCE, DRIVING = keypoints(1, 2, 4, 1, F64), keypoints(1, 2, 4, 2, F64)
IMAGE, LOGITS, MASK = random_like((1, 2, 3, 4), 0), random_like((1, 3, 3, 4), 3), random_like((1, 1, 2, 3), 5)
FLOW = random_like((1, 2, 3, 2), 1, -1.2, 1.2)
KEEP = torch.tensor([[True, False, True]])
TIMES = torch.tensor([[0.25, 0.7]], dtype=F64)


def _anytime_warp(*tensors: Tensor) -> list[Tensor]:
    return ops.anytime_warp(tensors[:2], tensors[2], tensors[3:])


def _blend(dropout: str) -> Callable[..., Any]:
    return lambda *tensors: ops.blend_flow(*tensors, KEEP.to(tensors[0].device), dropout)


def _warp(padding_mode: str, align_corners: bool) -> Callable[..., Any]:
    return lambda *tensors: ops.warp(*tensors, padding_mode=padding_mode, align_corners=align_corners)


CALLS: list[tuple[str, Callable[..., Any], Sequence[Tensor]]] = [
    ("fit_tps", ops.fit_tps, (DRIVING, SOURCE)),
    ("tps_grid", lambda *x: ops.tps_grid(*x, (3, 4)), (SOURCE[..., :3, :].mT, SOURCE, DRIVING)),
    ("keypoint_heatmaps", lambda *x: ops.keypoint_heatmaps(*x, (3, 4), variance=0.1), (DRIVING[0], SOURCE[0])),
    ("motion_features", ops.motion_features, (IMAGE, DRIVING, SOURCE, affine(1, F64))),
    ("blend_flow", ops.blend_flow, (LOGITS, DRIVING, SOURCE, affine(1, F64))),
    ("blend_flow", _blend("reference"), (LOGITS, DRIVING, SOURCE, affine(1, F64))),
    ("blend_flow", _blend("corrected"), (LOGITS, DRIVING, SOURCE, affine(1, F64))),
    *(
        ("warp", _warp(padding_mode, align_corners), (IMAGE, FLOW, MASK))
        for padding_mode in ("zeros", "border", "reflection")
        for align_corners in (True, False)
    ),
    ("tps_warp", ops.tps_warp, (IMAGE, LOGITS, DRIVING, SOURCE, affine(1, F64))),
    ("tps_warp", ops.tps_warp, (random_like((1, 2, 5, 4), 0), LOGITS, DRIVING, SOURCE)),
    ("grid_sample", lambda *x: ops.grid_sample(*x, align_corners=False), (IMAGE, FLOW)),
    ("anytime_keypoints", ops.anytime_keypoints, (SOURCE, DRIVING, TIMES)),
    ("anytime_motion_features", ops.anytime_motion_features, (IMAGE, SOURCE, DRIVING, TIMES, affine(1, F64))),
    (
        "anytime_warp",
        _anytime_warp,
        (IMAGE, random_like((1, 1, 5, 2), 1), random_like((1, 2, 2, 3, 2), 2), *random_like((2, 1, 2, 1, 3, 4), 3)),
    ),
]


@pytest.mark.parametrize(("op", "function", "inputs"), CALLS, ids=[f"{i}-{name}" for i, (name, *_) in enumerate(CALLS)])
@pytest.mark.usefixtures("backend", "op")
def test_gradients_are_derivatives(
    device: torch.device, function: Callable[..., Any], inputs: Sequence[Tensor]
) -> None:
    leaves = [x.to(device).clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
