from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from small import small_model
from torch import Tensor

from lami.animation import KeypointTransfer, find_best_frame, pose_distance
from lami.animation.pose import hull_area, relative_scale
from lami.configs.schema import AVDConfig
from lami.errors import ConfigError, DataError
from lami.pose import SeenPoses

SQUARE = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.2]])


def poses(count: int) -> Tensor:
    """(count, 4, 5, 2)."""
    return 0.8 * torch.rand(count, 4, 5, 2) - 0.4


def test_hull_area() -> None:
    assert hull_area(SQUARE) == pytest.approx(1.0)
    assert hull_area(SQUARE.flip(0).reshape(1, 5, 2) * 2) == pytest.approx(4.0)


def test_scale_of_objects_without_extent() -> None:
    line = torch.linspace(-1, 1, 5)[:, None].expand(5, 2)
    assert relative_scale(SQUARE, 0.5 * SQUARE) == pytest.approx(2.0)
    assert relative_scale(SQUARE, line) == 1.0
    assert relative_scale(torch.zeros(5, 2), SQUARE) == 1.0


def test_pose_distance_ignores_place_and_size() -> None:
    assert pose_distance(SQUARE, 0.3 * SQUARE + torch.tensor([0.4, -0.2])) == pytest.approx(0.0, abs=1e-6)
    turned = SQUARE @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert pose_distance(SQUARE, turned) > 0.5
    assert math.isfinite(pose_distance(SQUARE, torch.zeros(5, 2)))


def test_best_frame_is_the_nearest_pose_wherever_it_is() -> None:
    source = poses(1)
    frames = poses(7)
    frames[4] = 0.5 * source[0] + 0.3
    assert find_best_frame(source, [frames[:3], frames[3:]]) == 4
    frames[2] = frames[4]
    assert find_best_frame(source, [frames]) == 2
    with pytest.raises(DataError, match="no frames"):
        find_best_frame(source, [])


def test_absolute_mode_keeps_driving_keypoints() -> None:
    driving = poses(3)
    assert torch.equal(KeypointTransfer(small_model(), poses(1), "absolute")(driving), driving)


def test_relative_mode_adds_the_scaled_change_since_the_first_frame() -> None:
    source, driving = poses(1), poses(5)
    scale = math.sqrt(hull_area(source) / hull_area(driving[0]))
    expected = source + (driving - driving[:1]) * scale
    transfer = KeypointTransfer(small_model(), source, "relative")
    torch.testing.assert_close(torch.cat([transfer(driving[:2]), transfer(driving[2:])]), expected)
    torch.testing.assert_close(transfer(driving[:1]), source)
    transfer.forget_reference()
    torch.testing.assert_close(transfer(driving[3:4]), source)
    transfer.refer_to(driving[:1])
    torch.testing.assert_close(transfer(driving), expected)


def test_relative_mode_warns_of_a_start_pose_that_training_has_not_seen(caplog: pytest.LogCaptureFixture) -> None:
    square = SQUARE[None, None]
    model = small_model()
    model.seen_poses = SeenPoses.none(torch.device("cpu"))
    model.seen_poses.add(torch.linspace(0, 0.5, 100))
    with caplog.at_level(logging.INFO, "lami"):
        transfer = KeypointTransfer(model, square, "relative")
        transfer.refer_to(square + 0.1)
        assert [record.levelname for record in caplog.records] == ["INFO"]
        assert transfer.start_distance == pytest.approx(0, abs=1e-6)
        transfer.refer_to(-square)
        assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
        assert transfer.start_distance == pose_distance(square, -square)
        assert "--best-frame" in caplog.messages[-1]
        transfer.forget_reference()
        assert transfer.start_distance is None


def test_a_model_that_tells_nothing_of_its_training_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lami"):
        KeypointTransfer(small_model(), SQUARE[None, None], "relative").refer_to(-SQUARE[None, None])
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "its file tells nothing" in caplog.messages[0]


@pytest.mark.parametrize("mode", ["relative", "absolute", "avd"])
def test_strength_is_how_far_keypoints_move(mode: Any) -> None:
    model = small_model(avd=AVDConfig(identity_width=8, pose_width=8))
    source, driving = poses(1), poses(3)
    with torch.inference_mode():
        none, once, more = (KeypointTransfer(model, source, mode, strength)(driving) for strength in (0.0, 1.0, 1.5))
        assert torch.equal(once, KeypointTransfer(model, source, mode)(driving))
    assert torch.equal(none, source.expand_as(driving))
    torch.testing.assert_close(more - source, 1.5 * (once - source))


def test_avd_mode_asks_the_network() -> None:
    model = small_model(avd=AVDConfig(identity_width=8, pose_width=8))
    source, driving = poses(1), poses(3)
    assert model.avd is not None
    with torch.inference_mode():
        expected = model.avd(source.expand(3, -1, -1, -1), driving)
        assert torch.equal(KeypointTransfer(model, source, "avd")(driving), expected)


def test_modes_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="train-avd"):
        KeypointTransfer(small_model(), poses(1), "avd")
    with pytest.raises(ConfigError, match="relative, absolute, avd"):
        KeypointTransfer(small_model(), poses(1), "standard")  # type: ignore[arg-type]
    for strength in (-0.5, math.nan, math.inf):
        with pytest.raises(ConfigError, match="strength must be a finite number"):
            KeypointTransfer(small_model(), poses(1), "relative", strength)
