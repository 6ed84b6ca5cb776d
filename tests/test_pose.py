from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from small import small_model
from tiny import CHEAP, tiny_config, tiny_model, tiny_pair

import lami
from lami import checkpoint
from lami.errors import CheckpointError
from lami.model_card import model_card
from lami.pose import SeenPoses, normalized_pose, pose_distances
from lami.training.step import StepState, TrainingStep

CPU = torch.device("cpu")


def test_place_and_size_are_taken_out() -> None:
    keypoints = torch.rand(3, 2, 5, 2)
    poses = normalized_pose(keypoints)
    assert poses.shape == (3, 10, 2)
    torch.testing.assert_close(poses.mean(dim=1), torch.zeros(3, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(poses.square().sum(dim=-1).mean(dim=-1), torch.ones(3))
    torch.testing.assert_close(normalized_pose(0.2 * keypoints - 0.7), poses, atol=1e-5, rtol=0)
    assert normalized_pose(torch.zeros(1, 2, 5, 2)).isfinite().all()


def test_distances_to_one_pose_or_to_as_many() -> None:
    first, second = torch.rand(1, 2, 5, 2), torch.rand(4, 2, 5, 2)
    one, many = pose_distances(first, second), pose_distances(first.expand(4, -1, -1, -1), second)
    torch.testing.assert_close(one, many)
    assert pose_distances(first, second[:1]).item() == pytest.approx(one[0].item())
    # A point that moves from one side of the centre to the other has gone twice the radius.
    pair = torch.tensor([[[[-1.0, 0.0], [1.0, 0.0]]]])
    assert pose_distances(pair, -pair).item() == pytest.approx(2)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.floats(0.01, 1))
def test_percentiles(distances: list[float], share: float) -> None:
    seen = SeenPoses.none(CPU)
    seen.add(torch.tensor(distances))
    exact = np.quantile(np.minimum(distances, 2), share, method="inverted_cdf")
    assert seen.percentile(share) == pytest.approx(exact, abs=0.0101)


def test_later_pairs_count_more() -> None:
    seen = SeenPoses.none(CPU)
    for distance in (1.0, 0.2):
        for _ in range(60):
            seen.add(torch.full((1000,), distance))
    assert seen.percentile(0.8) == pytest.approx(0.21)  # the earlier half is an eighth of the weight
    assert seen.percentile(0.95) == pytest.approx(1.01)


def test_distances_that_are_no_numbers_are_not_counted() -> None:
    seen = SeenPoses.none(CPU)
    seen.add(torch.tensor([float("nan"), 0.5]))
    assert seen.counts.sum() == 1
    assert SeenPoses.none(CPU).percentile(0.5) == 0


def test_training_counts_its_pairs_and_weight_files_keep_them(tmp_path: Path) -> None:
    config = tiny_config(CHEAP)
    model = tiny_model(config)
    step = TrainingStep(model, config.losses)
    source, driving = tiny_pair(3)
    with torch.no_grad():
        step(source, driving, StepState())
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
    assert model.seen_poses is not None
    assert model.seen_poses.counts.sum() == 3
    assert model.seen_poses.percentile(1) >= pose_distances(kp_source, kp_driving).max() - 0.01
    checkpoint.save(model, tmp_path / "a.safetensors")
    loaded = lami.load(tmp_path / "a.safetensors", "cpu")
    assert loaded.seen_poses is not None
    assert torch.equal(loaded.seen_poses.counts, model.seen_poses.counts)
    assert "pose distance of training pairs" in model_card(loaded, "a", None, None)
    TrainingStep(loaded, config.losses)(source, driving, StepState())
    assert loaded.seen_poses.counts.sum() > 5  # a resumed run goes on counting


def test_weight_files_of_models_without_training_tell_nothing(tmp_path: Path) -> None:
    model = small_model()
    for seen in (None, SeenPoses.none(CPU)):
        model.seen_poses = seen
        checkpoint.save(model, tmp_path / "a.safetensors")
        with safe_open(tmp_path / "a.safetensors", "pt") as file:
            assert "poses" not in file.metadata()
        assert lami.load(tmp_path / "a.safetensors", "cpu").seen_poses is None
    assert "pose distance" not in model_card(small_model(), "a", None, None)


@pytest.mark.parametrize("counts", [[-1.0], [1.0] * 201, [float("nan")], "a", [None]])
def test_damaged_counts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: object) -> None:
    model = small_model()
    model.seen_poses = SeenPoses.none(CPU)
    monkeypatch.setattr(model.seen_poses, "to_list", lambda: counts)
    checkpoint.save(model, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="does not know"):
        lami.load(tmp_path / "a.safetensors", "cpu")
