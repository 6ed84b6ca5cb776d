"""Heatmaps are differences of Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import keypoints, pixel_grid

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


@given(h=st.integers(2, 9), w=st.integers(2, 9), p=st.integers(1, 7), b=st.integers(0, 2))
@settings(max_examples=10)
def test_heatmaps_are_differences_of_gaussians(device: torch.device, h: int, w: int, p: int, b: int) -> None:
    driving, source = keypoints(b, 1, p, 1)[:, 0], keypoints(b, 1, p, 2)[:, 0]
    maps = ops.keypoint_heatmaps(driving.to(device), source.to(device), (h, w), variance=0.02).cpu()
    assert maps.shape == (b, p + 1, h, w)
    assert not maps[:, 0].any()
    pixels = pixel_grid(h, w)
    for i in range(b):
        y, x = h - 1, w // 2
        for point in range(p):
            d, s = (kp[i, point].sub(pixels[y, x]).square().sum().item() for kp in (driving, source))
            wanted = math.exp(-d / 0.04) - math.exp(-s / 0.04)
            assert maps[i, point + 1, y, x].item() == pytest.approx(wanted, abs=1e-6)


def test_no_keypoints_leave_the_background(device: torch.device) -> None:
    none = torch.zeros(2, 0, 2, device=device)
    assert ops.keypoint_heatmaps(none, none, (3, 4)).tolist() == torch.zeros(2, 1, 3, 4).tolist()


def test_moving_a_keypoint_raises_its_new_place_and_lowers_the_old(device: torch.device) -> None:
    driving, source = (torch.tensor([[[x, 0.0]]], device=device) for x in (-0.5, 0.5))
    row = ops.keypoint_heatmaps(driving, source, (5, 5))[0, 1, 2].tolist()
    assert row[1] == pytest.approx(1, abs=1e-6)
    assert row[3] == pytest.approx(-1, abs=1e-6)
