"""Warping a pyramid at several times is a loop over levels and times."""

from __future__ import annotations

import pytest
import torch
from ops.samples import random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("masked", [True, False])
def test_it_is_a_loop_over_levels_and_times(device: torch.device, masked: bool) -> None:
    levels = [random_like(shape, i).float().to(device) for i, shape in enumerate([(2, 4, 3, 4), (2, 3, 6, 8)])]
    flow = random_like((2, 3, 5, 7, 2), 2).float().to(device)
    masks = [random_like((2, 3, 1, *size), 3, 0.0).float().to(device) for size in [(3, 4), (6, 8)]]
    warped = ops.anytime_warp(levels, flow, masks if masked else None)
    for level, features in enumerate(levels):
        assert warped[level].shape == (2, 3, *features.shape[1:])
        for t in range(3):
            mask = masks[level][:, t] if masked else None
            with ops.use_backend("reference"):
                wanted = ops.warp(features, flow[:, t], mask)
            assert_close(warped[level][:, t], wanted, atol=1e-5, rtol=0)


def test_no_levels(device: torch.device) -> None:
    assert ops.anytime_warp([], torch.zeros(1, 2, 3, 3, 2, device=device)) == []


def test_an_empty_batch(device: torch.device) -> None:
    features, flow = torch.rand(0, 3, 6, 8, device=device), torch.rand(0, 2, 4, 4, 2, device=device)
    assert ops.anytime_warp([features], flow)[0].shape == (0, 2, 3, 6, 8)
