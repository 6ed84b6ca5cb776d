"""Motion features at several times are a loop over the times."""

from __future__ import annotations

import pytest
import torch
from ops.samples import affine, keypoints, random_like
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")

TIMES = torch.tensor([[0.1, 0.5, 0.8], [0.3, 0.6, 0.9]])


@pytest.mark.parametrize("times", [TIMES, TIMES[0]])
@pytest.mark.parametrize("background", ["none", "one", "each"])
def test_it_is_a_loop_over_times(device: torch.device, times: torch.Tensor, background: str) -> None:
    source, driving = keypoints(2, 2, 5, 1).to(device), keypoints(2, 2, 5, 2).to(device)
    image = random_like((2, 3, 6, 8), 0).float().to(device)
    matrices = torch.stack([affine(2), affine(2).flip(0), torch.eye(3).expand(2, 3, 3)], dim=1).to(device)
    chosen = {"none": None, "one": matrices[:, 0], "each": matrices}[background]
    features = ops.anytime_motion_features(image, source, driving, times.to(device), chosen, variance=0.03)
    assert features.shape == (2, 3, 20, 6, 8)
    for i in range(3):
        t = times.expand(2, 3)[:, i, None, None, None].to(device)
        at_time = None if chosen is None else chosen[:, i] if background == "each" else chosen
        with ops.use_backend("reference"):
            wanted = ops.motion_features(image, (1 - t) * source + t * driving, source, at_time, variance=0.03)
        assert_close(features[:, i], wanted, atol=5e-5, rtol=0)


def test_an_empty_batch(device: torch.device) -> None:
    kp, image = keypoints(0, 2, 5).to(device), torch.rand(0, 3, 6, 8, device=device)
    times = torch.tensor([0.2, 0.5], device=device)
    assert ops.anytime_motion_features(image, kp, kp, times).shape == (0, 2, 20, 6, 8)
