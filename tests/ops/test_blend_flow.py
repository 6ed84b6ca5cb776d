"""Flows are blends of candidate motions by (dropout-)softmax contributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import affine, all_grids, keypoints, pixel_grid, random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


@given(
    k=st.integers(1, 4),
    n=st.integers(3, 8),
    h=st.integers(2, 8),
    w=st.integers(2, 8),
    b=st.integers(0, 2),
    projected=st.booleans(),
)
@settings(max_examples=8)
def test_the_flow_is_the_softmax_blend_of_all_motions(
    device: torch.device, k: int, n: int, h: int, w: int, b: int, projected: bool
) -> None:
    driving, source = keypoints(b, k, n, 1).to(device), keypoints(b, k, n, 2).to(device)
    logits = random_like((b, k + 1, h, w), 3, -2.0, 2.0).float().to(device)
    background = affine(b).to(device) if projected else None
    flow, contributions = ops.blend_flow(logits, driving, source, background)
    assert_close(contributions, logits.softmax(1))
    with ops.use_backend("reference"):
        grids = all_grids(driving, source, background, h, w)
    assert_close(flow, (contributions[..., None] * grids).sum(1), atol=1e-5, rtol=1e-5)


def test_a_projective_background_divides_by_the_third_coordinate(device: torch.device) -> None:
    matrix = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]], device=device)
    logits = torch.tensor([200.0, 0.0], device=device)[None, :, None, None].expand(1, 2, 5, 4)
    kp = keypoints(1, 1, 5).to(device)
    assert_close(ops.blend_flow(logits, kp, kp, matrix)[0][0].cpu(), pixel_grid(5, 4) / 2)


@pytest.mark.parametrize(("mode", "total"), [("reference", 0.0076), ("corrected", 1.0)])
def test_dropping_the_winner(device: torch.device, mode: str, total: float) -> None:
    logits = torch.tensor([0.0, 20.0, 1.0], device=device)[None, :, None, None].expand(1, 3, 2, 2)
    kp, keep = keypoints(1, 2, 5).to(device), torch.tensor([[True, False, True]], device=device)
    contributions = ops.blend_flow(logits, kp, kp, keep=keep, dropout=mode)[1].cpu()
    assert_close(contributions.sum(1), torch.full((1, 2, 2), total), atol=5e-5, rtol=0)
    assert not contributions[:, 1].any()
    assert_close(contributions[:, 2] / contributions[:, 0], torch.full((1, 2, 2), math.e))


def test_keeping_everything_is_a_softmax(device: torch.device) -> None:
    kp, keep = keypoints(2, 2, 5).to(device), torch.ones(2, 3, dtype=torch.bool, device=device)
    logits = random_like((2, 3, 4, 4), 3, -2.0, 2.0).float().to(device)
    plain = ops.blend_flow(logits, kp, kp)[1]
    assert_close(ops.blend_flow(logits, kp, kp, keep=keep, dropout="corrected")[1], plain)
    assert_close(ops.blend_flow(logits, kp, kp, keep=keep, dropout="reference")[1], plain, atol=1e-6, rtol=0)


def test_huge_logits_do_not_overflow(device: torch.device) -> None:
    kp = keypoints(1, 1, 3).to(device)
    logits = torch.tensor([3e38, -3e38], device=device)[None, :, None, None].expand(1, 2, 2, 2)
    flow, contributions = ops.blend_flow(logits, kp, kp)
    assert_close(contributions[0, :, 0, 0].cpu(), torch.tensor([1.0, 0.0]))
    assert_close(flow[0].cpu(), pixel_grid(2, 2))
