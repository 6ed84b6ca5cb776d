"""Grids are splines evaluated at each pixel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import CONTROL, VALUES, keypoints, pixel_grid, spline
from torch.testing import assert_close

from lami import ops
from lami.ops import reference

pytestmark = pytest.mark.usefixtures("backend")


@given(h=st.integers(2, 9), w=st.integers(2, 9), n=st.integers(1, 20))
@settings(max_examples=10)
def test_the_grid_is_the_spline_at_each_pixel(device: torch.device, h: int, w: int, n: int) -> None:
    control, weights = keypoints(1, 2, n, 3, torch.float64), keypoints(1, 2, n, 4, torch.float64)
    theta = keypoints(1, 2, 3, 5, torch.float64).mT
    grid = ops.tps_grid(theta.to(device), weights.to(device), control.to(device), (h, w)).cpu()
    assert grid.shape == (1, 2, h, w, 2)
    pixels = pixel_grid(h, w, torch.float64)
    for y, x in ((0, 0), (h - 1, w // 2)):
        assert_close(grid[0, 1, y, x], spline(theta[0, 1], weights[0, 1], control[0, 1], pixels[y, x]))


def test_a_side_of_one_pixel_is_at_minus_one(device: torch.device) -> None:
    theta, weights = torch.eye(2, 3, device=device), torch.zeros(5, 2, device=device)
    assert ops.tps_grid(theta, weights, CONTROL.to(device), (1, 1)).flatten().tolist() == [-1.0, -1.0]


def test_centres_of_the_basis_are_finite(device: torch.device) -> None:
    """U(0) = 0 and its gradient vanishes: the second control point is a pixel of the grid."""
    control = torch.tensor([[0.3, 0.4], [0.0, 0.0]], device=device, requires_grad=True)
    grid = ops.tps_grid(torch.zeros(2, 3, device=device), torch.ones(2, 2, device=device), control, (3, 3))
    (gradient,) = torch.autograd.grad(grid[1, 1].sum(), control)
    assert_close(grid[1, 1].cpu(), torch.full((2,), 0.25).mul(torch.tensor(0.25).log()))
    assert gradient[1].tolist() == [0.0, 0.0]


def test_leading_dimensions_broadcast(device: torch.device) -> None:
    control = CONTROL.to(device)
    theta, weights = reference.fit_tps(control, torch.stack((VALUES, CONTROL))[:, None].to(device))
    assert ops.tps_grid(theta, weights, control, (4, 6)).shape == (2, 1, 4, 6, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_grid_has_at_least_fp32(device: torch.device, dtype: torch.dtype) -> None:
    control = CONTROL.to(device, dtype)
    grid = ops.tps_grid(control[:2].new_zeros(2, 3), control, control, (4, 4))
    assert grid.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_points_agree_with_the_grid(device: torch.device) -> None:
    control = CONTROL.to(device)
    theta, weights = reference.fit_tps(control, VALUES.to(device))
    points = ops.tps_points(theta, weights, control, pixel_grid(3, 4).flatten(0, 1).to(device))
    assert_close(points.unflatten(0, (3, 4)), ops.tps_grid(theta, weights, control, (3, 4)))
