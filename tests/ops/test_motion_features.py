"""Motion features are heatmaps, then the source warped by each candidate motion."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import affine, all_grids, keypoints, random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


@given(
    c=st.integers(1, 4),
    k=st.integers(1, 4),
    n=st.integers(3, 6),
    h=st.integers(2, 8),
    w=st.integers(2, 8),
    projected=st.booleans(),
)
@settings(max_examples=8)
def test_features_are_heatmaps_then_warped_sources(
    device: torch.device, c: int, k: int, n: int, h: int, w: int, projected: bool
) -> None:
    b = 2
    image = random_like((b, c, h, w), 0, 0.0).float().to(device)
    driving, source = keypoints(b, k, n, 1).to(device), keypoints(b, k, n, 2).to(device)
    background = affine(b).to(device) if projected else None
    features = ops.motion_features(image, driving, source, background, variance=0.03)
    assert features.shape == (b, k * n + 1 + (k + 1) * c, h, w)
    with ops.use_backend("reference"):
        heatmaps = ops.keypoint_heatmaps(driving.flatten(1, 2), source.flatten(1, 2), (h, w), variance=0.03)
        grids = all_grids(driving, source, background, h, w)
    assert_close(features[:, : k * n + 1], heatmaps, atol=1e-6, rtol=1e-5)
    for motion in range(k + 1):
        first = k * n + 1 + motion * c
        wanted = F.grid_sample(image, grids[:, motion], align_corners=True)
        assert_close(features[:, first : first + c], wanted, atol=2e-4, rtol=0)


def test_without_background_the_first_warp_is_the_source_itself(device: torch.device) -> None:
    image, kp = random_like((2, 3, 5, 7), 0).float().to(device), keypoints(2, 1, 4).to(device)
    assert_close(ops.motion_features(image, kp, kp)[:, 5:8], image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_features_keep_the_dtype_of_the_source(device: torch.device, dtype: torch.dtype) -> None:
    image, kp = torch.rand(1, 3, 4, 4, device=device, dtype=dtype), keypoints(1, 2, 5).to(device)
    assert ops.motion_features(image, kp, kp).dtype == dtype


def test_an_empty_batch(device: torch.device) -> None:
    kp, image = keypoints(0, 2, 5).to(device), torch.rand(0, 3, 6, 8, device=device)
    assert ops.motion_features(image, kp, kp, torch.rand(0, 3, 3, device=device)).shape == (0, 20, 6, 8)
