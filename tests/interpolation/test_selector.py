"""Selection of the time to transfer from, Eq. 4."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lami import ops
from lami.interpolation import Hysteresis, eq4_cost, pick

TIMES = torch.tensor([0.3, 0.5, 0.7])
SHARES = torch.tensor([0.7, 0.5, 0.3]) / 1.5
"""Keypoint shares at these times: (1 - t) / sum(1 - t) = .4667, .3333, .2, whatever the keypoints."""


def cost_of(appearance: Tensor) -> Tensor:
    """Cost of candidates at `TIMES` whose class tokens are that far from the source's, (B, T)."""
    b = len(appearance)
    kp_source, kp_driving = torch.rand(2, b, 4, 5, 2)
    cls_source = torch.rand(b, 8)
    direction = torch.nn.functional.normalize(torch.randn(b, 3, 8), dim=-1)
    candidates = cls_source[:, None] + appearance[..., None] * direction
    return eq4_cost(cls_source, candidates, ops.anytime_keypoints(kp_source, kp_driving, TIMES), kp_driving)


def test_keypoint_share_is_constant() -> None:
    assert_close(SHARES, torch.tensor([0.4667, 0.3333, 0.2]), atol=5e-5, rtol=0)
    assert_close(cost_of(torch.zeros(6, 3)), SHARES.expand(6, 3), atol=1e-5, rtol=0)


def test_appearance_share() -> None:
    appearance = torch.rand(6, 3) + 0.1
    wanted = appearance / appearance.sum(1, keepdim=True) + SHARES
    assert_close(cost_of(appearance), wanted, atol=1e-5, rtol=0)


def test_distances_are_not_squared_and_scale_free() -> None:
    appearance = torch.rand(4, 3) + 0.1
    assert_close(cost_of(10 * appearance), cost_of(appearance), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("power", "choice"), [(0.5, 2), (1.0, 0), (2.0, 0)])
def test_power_laws_of_appearance(power: float, choice: int) -> None:
    cost = cost_of(TIMES.pow(power).expand(5, 3))
    if power == 1:  # an exact three-way tie, in which the earliest time is taken
        assert_close(cost, torch.full((5, 3), 2 / 3), atol=1e-5, rtol=0)
    assert pick(cost).tolist() == [choice] * 5


def test_equal_source_and_driving_are_finite() -> None:
    keypoints, cls = torch.rand(2, 4, 5, 2), torch.rand(2, 8)
    cost = eq4_cost(cls, cls[:, None].expand(2, 3, 8), keypoints[:, None].expand(2, 3, 4, 5, 2), keypoints)
    assert_close(cost, torch.zeros(2, 3), atol=0, rtol=0)
    assert pick(cost).tolist() == [0, 0]


def test_half_precision_tokens_are_compared_in_fp32() -> None:
    keypoints, cls = torch.rand(1, 4, 5, 2), torch.rand(1, 8).bfloat16()
    cost = eq4_cost(cls, cls[:, None].expand(1, 3, 8), keypoints[:, None].expand(1, 3, 4, 5, 2), keypoints)
    assert cost.dtype == torch.float32


def test_pick_ignores_rounding() -> None:
    cost = torch.tensor([[0.5, 0.4, 0.6], [0.5 + 4e-7, 0.5, 0.5], [0.5, 0.5 - 4e-7, 0.5 - 8e-7], [0.5, 0.6, 0.49]])
    assert pick(cost).tolist() == [1, 0, 0, 2]


def test_hysteresis_stays_until_another_is_clearly_better() -> None:
    frames = torch.tensor(
        [
            [0.50, 0.40, 0.60],  # starts with the best
            [0.39, 0.40, 0.60],  # better by .01: stays
            [0.35, 0.40, 0.60],  # better by .05: moves
            [0.41, 0.40, 0.60],  # stays again
            [0.41, 0.40, 0.30],
        ]
    )
    assert Hysteresis(0.02).pick(frames).tolist() == [1, 1, 0, 0, 2]
    assert Hysteresis(0.0).pick(frames).tolist() == pick(frames).tolist()
    assert Hysteresis(1.0).pick(frames).tolist() == [1] * 5


def test_hysteresis_remembers_between_batches() -> None:
    frames, whole, parts = torch.rand(20, 3), Hysteresis(0.1), Hysteresis(0.1)
    wanted = whole.pick(frames)
    assert torch.equal(torch.cat([parts.pick(frames[:7]), parts.pick(frames[7:8]), parts.pick(frames[8:])]), wanted)
    assert len(wanted.unique()) > 1
