"""Keypoints move linearly in time."""

from __future__ import annotations

import pytest
import torch
from ops.samples import keypoints
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")

TIMES = torch.tensor([[0.1, 0.5, 0.8], [0.3, 0.6, 0.9]])


@pytest.mark.parametrize("times", [TIMES, TIMES[0], TIMES[:1]])
def test_keypoints_at_each_time(device: torch.device, times: torch.Tensor) -> None:
    source, driving = keypoints(2, 2, 5, 1).to(device), keypoints(2, 2, 5, 2).to(device)
    moved = ops.anytime_keypoints(source, driving, times.to(device))
    assert moved.shape == (2, 3, 2, 5, 2)
    for b in range(2):
        for i, t in enumerate(times.expand(2, 3)[b].tolist()):
            assert_close(moved[b, i], (1 - t) * source[b] + t * driving[b])


def test_an_empty_batch(device: torch.device) -> None:
    kp = keypoints(0, 2, 5).to(device)
    assert ops.anytime_keypoints(kp, kp, torch.tensor([0.5], device=device)).shape == (0, 1, 2, 5, 2)


def test_they_keep_the_dtype_of_the_source(device: torch.device) -> None:
    source, driving = keypoints(1, 1, 3).to(device, torch.float16), keypoints(1, 1, 3, 1).to(device)
    assert ops.anytime_keypoints(source, driving, torch.tensor([0.5], device=device)).dtype == torch.float16
