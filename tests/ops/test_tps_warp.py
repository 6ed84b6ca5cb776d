"""Blending motions and warping by the result, at one size and at two."""

from __future__ import annotations

import pytest
import torch
from ops.samples import affine, keypoints, random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("size", [(6, 8), (9, 5)])
@pytest.mark.parametrize("dropout", [None, "reference", "corrected"])
def test_it_is_a_blend_then_a_warp(device: torch.device, size: tuple[int, int], dropout: str | None) -> None:
    image = random_like((2, 3, *size), 0).float().to(device)
    logits = random_like((2, 3, 6, 8), 1).float().to(device)
    driving, source = keypoints(2, 2, 5, 1).to(device), keypoints(2, 2, 5, 2).to(device)
    keep = None if dropout is None else torch.tensor([[True, True, False], [False, True, True]], device=device)
    arguments = (driving, source, affine(2).to(device), keep, dropout or "reference")
    warped, flow = ops.tps_warp(image, logits, *arguments)
    wanted, _ = ops.blend_flow(logits, *arguments)
    assert_close(flow, wanted, atol=2e-6, rtol=0)
    assert_close(warped, ops.warp(image, wanted), atol=2e-4, rtol=0)


def test_the_image_may_have_half_precision(device: torch.device) -> None:
    kp = keypoints(1, 1, 3).to(device)
    image = torch.ones(1, 3, 4, 4, device=device).half()
    warped, flow = ops.tps_warp(image, torch.zeros(1, 2, 4, 4, device=device), kp, kp)
    assert warped.dtype == torch.float16
    assert flow.dtype == torch.float32
