"""MediaPipe on people in 64x64 frames."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lami.data import open_clip
from lami.errors import ConfigError
from lami.evaluation.estimators import Frame, make_keypoint_estimator
from lami.evaluation.estimators.mediapipe_pose import MediaPipePose


def test_release_without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = types.ModuleType("mediapipe")
    newer.__version__ = "0.10.35"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mediapipe", newer)
    with pytest.raises(ConfigError, match=r"0\.10\.35 has no models: .*--no-deps mediapipe==0\.10\.21"):
        MediaPipePose()


def test_the_name_tells_settings_that_change_points(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("mediapipe")
    package.__version__ = "0.10.21"  # type: ignore[attr-defined]
    pose = types.SimpleNamespace(PoseLandmark=(), Pose=lambda **_: None)
    package.solutions = types.SimpleNamespace(pose=pose)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    assert MediaPipePose().name == "mediapipe with a margin of 0.75"
    names = {MediaPipePose(visibility, margin).name for visibility in (0.5, 0.7) for margin in (0.5, 0.75)}
    assert len(names) == 4


@pytest.fixture(scope="module")
def _installed() -> None:
    mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is not installed: docs/evaluation.md has the lines")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip(f"MediaPipe {mediapipe.__version__} has no models: docs/evaluation.md has the version")


@pytest.fixture
def frames(shared_data: Path, _installed: None) -> list[Frame]:
    """A man who stretches out an arm to the right of the image."""
    clip = open_clip(sorted((shared_data / "actions" / "test").glob("*.jpg"))[0], (64, 64))
    numbers = (0, len(clip) // 2)
    return [Frame(image, clip.name, n, False) for n, image in zip(numbers, clip.frames(numbers), strict=True)]


def test_pose_of_a_small_person(frames: list[Frame]) -> None:
    estimator = make_keypoint_estimator("mediapipe", enlarge=5)
    found = estimator.keypoints(frames[0])
    assert found is not None
    assert found.points.shape == (33, 2)
    assert found.points.dtype == np.float64
    point = dict(zip(estimator.labels, found.points, strict=True))
    present = dict(zip(estimator.labels, found.present, strict=True))
    # As seen in the picture.
    np.testing.assert_allclose(point["nose"], [30, 23], atol=2)
    np.testing.assert_allclose(point["left_wrist"], [52, 27], atol=3)
    assert present["nose"]
    assert present["left_wrist"]
    # The feet are below the frame.
    assert point["left_ankle"][1] > 63.5
    assert not present["left_ankle"]


def test_visibility_decides(frames: list[Frame]) -> None:
    counts = []
    for visibility in (0.0, 0.5, 1.0):
        found = MediaPipePose(visibility).keypoints(frames[0])
        assert found is not None
        counts.append(int(found.present.sum()))
    assert 33 > counts[0] >= counts[1] > counts[2] == 0


def test_frames_do_not_depend_on_their_order(frames: list[Frame]) -> None:
    estimator = make_keypoint_estimator("mediapipe", enlarge=5)
    forwards = [estimator.keypoints(frame) for frame in frames]
    backwards = [estimator.keypoints(frame) for frame in reversed(frames)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.points, other.points)


def test_nobody(frames: list[Frame]) -> None:
    wall = Frame(np.full((64, 64, 3), 128, np.uint8), "wall", 0, True)
    assert make_keypoint_estimator("mediapipe", enlarge=4).keypoints(wall) is None
