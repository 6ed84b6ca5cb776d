"""TPSMM's regularisers."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_pair
from torch import Tensor
from torch.testing import assert_close

from lami.losses import RandomTPS, background_consistency, regularizers, warp_consistency

CPU = torch.device("cpu")


def test_random_transforms_have_the_published_spread() -> None:
    transform = RandomTPS(3000, CPU)
    deviation = transform.theta - torch.eye(2, 3)
    assert_close(deviation.mean(0), torch.zeros(2, 3), atol=0.005, rtol=0)
    assert_close(deviation.std(0), torch.full((2, 3), 0.05), atol=0.004, rtol=0)
    assert transform.weights.shape == (3000, 25, 2)
    assert torch.equal(transform.weights[..., 0], transform.weights[..., 1])
    assert transform.weights.std().item() == pytest.approx(0.005, rel=0.02)
    grid = {(x / 2 - 1, y / 2 - 1) for x in range(5) for y in range(5)}
    assert {tuple(point) for point in transform.control_points[0].tolist()} == grid


def test_without_spread_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regularizers, "_AFFINE_STD", 0.0)
    monkeypatch.setattr(regularizers, "_WEIGHT_STD", 0.0)
    transform = RandomTPS(2, CPU)
    image, keypoints = torch.rand(2, 3, 20, 30), torch.rand(2, 4, 5, 2) * 2 - 1
    assert_close(transform.image(image), image, atol=1e-5, rtol=0)
    assert_close(transform.keypoints(keypoints), keypoints)


def blob(at: Tensor, side: int) -> Tensor:
    """An image (1, 1, side, side) with a bright spot at (x, y)."""
    axis = torch.linspace(-1, 1, side)
    distance = (axis[None] - at[0]).square() + (axis[:, None] - at[1]).square()
    return torch.exp(-distance / (2 * 0.04**2))[None, None]


def position(image: Tensor) -> Tensor:
    """Centre of mass (x, y) of an image (1, 1, side, side)."""
    axis = torch.linspace(-1, 1, image.shape[-1])
    weight = image[0, 0] / image.sum()
    return torch.stack(((weight.sum(0) * axis).sum(), (weight.sum(1) * axis).sum()))


@pytest.mark.parametrize("at", [(0.0, 0.0), (0.4, -0.3), (-0.5, 0.1)])
def test_keypoints_of_a_transformed_image_map_back(at: tuple[float, float]) -> None:
    side, pixel = 129, 2 / 128
    transform = RandomTPS(1, CPU)
    found = position(transform.image(blob(torch.tensor(at), side)))
    assert (found - torch.tensor(at)).norm() > pixel
    assert_close(transform.keypoints(found[None, None, None])[0, 0, 0], torch.tensor(at), atol=pixel / 4, rtol=0)


def test_border_is_reflected() -> None:
    assert RandomTPS(8, CPU).image(torch.ones(8, 3, 16, 16)).min().item() == pytest.approx(1, abs=1e-5)


def test_warp_loss_of_the_identity() -> None:
    features, targets = ([torch.rand(2, 3, 4, 6), torch.rand(2, 2, 8, 12)] for _ in range(2))
    occlusions = [torch.rand(2, 1, 4, 6), torch.rand(2, 1, 8, 12)]
    flow = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 4), indexing="xy"), dim=-1)
    wanted = sum(((f - t) * o).abs().mean().item() for f, t, o in zip(features, targets, occlusions, strict=True))
    loss = warp_consistency(features, flow.expand(2, -1, -1, -1), targets, occlusions)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_warp_loss_moves_the_flow_alone() -> None:
    model = tiny_model(tiny_config())
    source, driving = tiny_pair()
    encoded, target = model.encode(source), model.encode(driving)
    kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
    background = model.predict_background(source, driving)
    motion = model.predict_motion(encoded, kp_driving, kp_source, background)
    kept = [motion.flow, *encoded.features, *target.features, *motion.occlusions]
    for tensor in kept:
        tensor.retain_grad()
    warp_consistency(encoded.features, motion.flow, target.features, motion.occlusions).backward()
    assert motion.flow.grad is not None
    assert motion.flow.grad.abs().max() > 0
    assert all(tensor.grad is None for tensor in kept[1:])

    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    makes_flow = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(
            ("keypoint_detector.", "background_predictor.", "dense_motion.hourglass.", "dense_motion.maps.")
        )
    }
    assert moved == makes_flow


def test_background_consistency() -> None:
    forward = torch.tensor([[[1.1, 0.1, 0.2], [-0.2, 0.9, -0.1], [0, 0, 1]]])
    assert background_consistency(forward, forward.inverse()).item() == pytest.approx(0, abs=1e-7)
    backward = torch.eye(3)[None]
    # Entries that differ from the identity: .1, .1, .2, .2, .1, .1; the mean is over all nine.
    assert background_consistency(forward, backward).item() == pytest.approx(0.8 / 9)
    # A(S, D) A(D, S): the order matters.
    other = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]]])
    assert background_consistency(forward, other).item() == pytest.approx((0.1 + 0.1 + 0.75 + 0.2 + 0.1 + 0.2) / 9)


def test_autocast_does_not_round_the_background() -> None:
    forward, backward = torch.randn(2, 3, 3), torch.randn(2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = background_consistency(forward, backward)
    assert torch.equal(loss, background_consistency(forward, backward))
