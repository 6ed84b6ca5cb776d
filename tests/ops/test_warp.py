"""Warping is grid_sample of the resized flow, times the resized mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import pixel_grid, random_like
from torch import Tensor
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")

sides = st.integers(1, 9)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_warp_is_grid_sample_of_the_resized_flow(device: torch.device, padding_mode: str, align_corners: bool) -> None:
    features = random_like((2, 3, 12, 10), 0).float().to(device)
    flow = random_like((2, 5, 4, 2), 1, -1.5, 1.5).float().to(device)
    mask = random_like((2, 1, 3, 6), 2).float().to(device)

    def resize(x: Tensor) -> Tensor:
        return F.interpolate(x, (12, 10), mode="bilinear", align_corners=True)

    wanted = F.grid_sample(
        features, resize(flow.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), "bilinear", padding_mode, align_corners
    )
    assert_close(ops.warp(features, flow, None, padding_mode, align_corners), wanted, atol=2e-5, rtol=0)
    assert_close(ops.warp(features, flow, mask, padding_mode, align_corners), wanted * resize(mask), atol=2e-5, rtol=0)


@given(h=sides, w=sides, flow_h=sides, flow_w=sides, c=st.integers(0, 3), b=st.integers(0, 2))
@settings(max_examples=12)
def test_warp_takes_any_size(device: torch.device, h: int, w: int, flow_h: int, flow_w: int, c: int, b: int) -> None:
    features, flow = torch.ones(b, c, h, w, device=device), torch.zeros(b, flow_h, flow_w, 2, device=device)
    result = ops.warp(features, flow, torch.full((b, 1, 1, 1), 0.5, device=device))
    assert_close(result, torch.full((b, c, h, w), 0.5, device=device))


def test_warp_shifts_by_whole_pixels(device: torch.device) -> None:
    image = torch.arange(20.0, device=device).view(1, 1, 4, 5)
    flow = (pixel_grid(4, 5)[None] + torch.tensor([2 / 4, 0.0])).to(device)
    assert_close(ops.warp(image, flow)[0, 0, :, :4], image[0, 0, :, 1:], atol=1e-5, rtol=0)
    assert_close(ops.warp(image, flow)[0, 0, :, 4].cpu(), torch.zeros(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_warped_features_keep_their_dtype(device: torch.device, dtype: torch.dtype) -> None:
    features = torch.ones(1, 3, 4, 4, dtype=dtype, device=device)
    warped = ops.warp(features, torch.zeros(1, 4, 4, 2, device=device))
    assert warped.dtype == dtype
    assert_close(warped, features)
