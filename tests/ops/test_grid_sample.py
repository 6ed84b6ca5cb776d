"""A drop-in: agrees with PyTorch on every mode, on 4-D and 5-D input, also on what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ops.samples import random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("align_corners", [True, False, None])
@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_values_and_gradients_are_those_of_torch(
    device: torch.device, mode: str, padding_mode: str, align_corners: bool | None
) -> None:
    image = random_like((2, 3, 6, 5), 0).to(device).requires_grad_()
    grid = random_like((2, 4, 7, 2), 1, -1.6, 1.6).to(device).requires_grad_()
    ours = ops.grid_sample(image, grid, mode, padding_mode, align_corners)
    theirs = F.grid_sample(image, grid, mode, padding_mode, align_corners)
    cotangent = random_like(tuple(theirs.shape), 2).to(device)
    assert_close(ours, theirs)
    for gradient, wanted in zip(
        torch.autograd.grad(ours, (image, grid), cotangent),
        torch.autograd.grad(theirs, (image, grid), cotangent),
        strict=True,
    ):
        assert_close(gradient, wanted)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_volumes(device: torch.device, mode: str, padding_mode: str) -> None:
    volume, grid = random_like((2, 3, 4, 5, 6), 0).to(device), random_like((2, 3, 4, 5, 3), 1, -1.6, 1.6).to(device)
    assert_close(
        ops.grid_sample(volume, grid, mode, padding_mode, align_corners=True),
        F.grid_sample(volume, grid, mode, padding_mode, align_corners=True),
    )


def test_keywords_and_defaults_are_those_of_torch(device: torch.device) -> None:
    image, grid = torch.rand(1, 2, 4, 4, device=device), torch.zeros(1, 3, 3, 2, device=device)
    with pytest.warns(UserWarning, match="Default grid_sample"):
        theirs = F.grid_sample(input=image, grid=grid)
    assert_close(ops.grid_sample(input=image, grid=grid, align_corners=False), theirs)


@pytest.mark.parametrize(
    ("shape", "grid_shape", "mode"),
    [
        ((1, 2, 4, 4), (1, 3, 3, 3), "bilinear"),
        ((1, 2, 4, 4), (2, 3, 3, 2), "bilinear"),
        ((1, 2, 4), (1, 3, 3, 2), "bilinear"),
        ((1, 2, 4, 4), (1, 3, 3, 2), "cubic"),
        ((1, 2, 0, 4), (1, 3, 3, 2), "bilinear"),
    ],
)
def test_wrong_input_raises_what_torch_raises(
    device: torch.device, shape: tuple[int, ...], grid_shape: tuple[int, ...], mode: str
) -> None:
    image, grid = torch.zeros(shape, device=device), torch.zeros(grid_shape, device=device)
    with pytest.raises((RuntimeError, ValueError)) as theirs:
        F.grid_sample(image, grid, mode, align_corners=True)
    with pytest.raises(theirs.type) as ours:
        ops.grid_sample(image, grid, mode, align_corners=True)
    assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]


@pytest.mark.parametrize("grid", [None, [[0.0, 0.0]], 1.0])
def test_grids_that_are_no_tensors_raise_what_torch_raises(device: torch.device, grid: Any) -> None:
    image = torch.zeros(1, 2, 4, 4, device=device)
    with pytest.raises((TypeError, AttributeError)) as theirs:
        F.grid_sample(image, grid, align_corners=True)
    with pytest.raises(theirs.type) as ours:
        ops.grid_sample(image, grid, align_corners=True)
    assert str(ours.value) == str(theirs.value)


def test_half_precision_and_layout(device: torch.device) -> None:
    image = torch.ones(1, 3, 4, 4, device=device).bfloat16().to(memory_format=torch.channels_last)
    sampled = ops.grid_sample(image, torch.zeros(1, 2, 3, 2, device=device).bfloat16(), align_corners=True)
    assert sampled.dtype == torch.bfloat16
    assert_close(sampled, torch.ones_like(sampled))
