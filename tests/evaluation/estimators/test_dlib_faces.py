"""dlib on portraits and talking heads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lami.animation.letterbox import resize
from lami.data import open_clip, read_image
from lami.evaluation.estimators import Frame, KeypointEstimator, make_identity_estimator, make_keypoint_estimator
from lami.evaluation.estimators.enlarging import EnlargedKeypoints

pytest.importorskip("dlib", reason="dlib is not installed: pip install 'lami[eval]'")
if importlib.util.find_spec("face_recognition_models") is None:
    pytest.skip("dlib's weights are not installed: pip install 'lami[eval]'", allow_module_level=True)


@pytest.fixture(scope="module")
def landmarks() -> KeypointEstimator:
    return make_keypoint_estimator("dlib")


def portrait(shared_data: Path, name: str, height: int) -> Frame:
    image = read_image(shared_data / "faces" / "source" / name)
    return Frame(resize(image, height, round(image.shape[1] * height / image.shape[0])), name, 0, False)


def test_landmarks_of_a_portrait(shared_data: Path, landmarks: KeypointEstimator) -> None:
    frame = portrait(shared_data, "s12.jpg", 256)
    found = landmarks.keypoints(frame)
    assert found is not None
    assert found.points.shape == (68, 2)
    assert found.points.dtype == np.float64
    assert found.present.all()
    # The face is seen there in the picture.
    np.testing.assert_allclose(found.points.mean(axis=0), [94, 100], atol=10)
    group = {
        name: found.points[[n for n, label in enumerate(landmarks.labels) if label.startswith(name)]].mean(axis=0)
        for name in ("left_eye", "right_eye", "left_brow", "nose", "mouth")
    }
    assert group["left_eye"][0] < group["nose"][0] < group["right_eye"][0]
    assert group["left_brow"][1] < group["left_eye"][1] < group["nose"][1] < group["mouth"][1]
    jaw = found.points[:17]
    assert jaw[:, 0].min() < group["left_eye"][0]
    assert jaw[8, 1] == found.points[:, 1].max()


def test_landmarks_move_with_the_face(shared_data: Path, landmarks: KeypointEstimator) -> None:
    frame = portrait(shared_data, "s12.jpg", 256)
    here = landmarks.keypoints(frame)
    there = landmarks.keypoints(Frame(frame.image[20:, 12:], "cut", 0, False))
    assert here is not None
    assert there is not None
    np.testing.assert_allclose(here.points - there.points, np.broadcast_to([12, 20], (68, 2)), atol=4)


def test_small_faces_are_found_when_enlarged(shared_data: Path, landmarks: KeypointEstimator) -> None:
    frame = portrait(shared_data, "s12.jpg", 64)
    assert landmarks.keypoints(frame) is None
    found = EnlargedKeypoints(landmarks, 4).keypoints(frame)
    large = landmarks.keypoints(portrait(shared_data, "s12.jpg", 256))
    assert found is not None
    assert large is not None
    np.testing.assert_allclose(found.points, (large.points + 0.5) / 4 - 0.5, atol=2)


def test_no_face_in_a_cat(shared_data: Path, landmarks: KeypointEstimator) -> None:
    assert landmarks.keypoints(portrait(shared_data, "s41.jpg", 256)) is None


@pytest.mark.parametrize("name", ["dlib", "dlib-whole-frame"])
def test_same_person_is_nearer_than_others(shared_data: Path, name: str) -> None:
    estimator = make_identity_estimator(name)
    clip = open_clip(shared_data / "faces" / "driving" / "d12.mp4")
    frames = [Frame(resize(image, 256, 256), clip.name, n, False) for n, image in enumerate(clip.frames([0, 40]))]
    first, later, other = (estimator.embedding(f) for f in (*frames, portrait(shared_data, "s12.jpg", 256)))
    assert first is not None
    assert later is not None
    assert other is not None
    assert first.shape == (128,)
    assert first.dtype == np.float64
    assert np.linalg.norm(first - later) < np.linalg.norm(first - other)
    if name == "dlib":  # what its authors call the same person
        assert np.linalg.norm(first - later) < 0.6 < np.linalg.norm(first - other)
    np.testing.assert_array_equal(estimator.embedding(frames[0]), first)

    dark = estimator.embedding(Frame(np.zeros((64, 64, 3), np.uint8), "dark", 0, False))
    assert (dark is None) == (name == "dlib")
