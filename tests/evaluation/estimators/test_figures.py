"""Synthetic figures: true points in real frames, the packaged detector in others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lami.configs.schema import DataConfig, SyntheticConfig
from lami.data import find_clips
from lami.errors import ConfigError, DataError
from lami.evaluation.estimators import Frame
from lami.evaluation.estimators.figures import FigurePoints

# The figures of the preset demo, which the packaged model was not trained on.
DATA = DataConfig(synthetic=SyntheticConfig(num_clips=4000, num_test_clips=2, num_frames=4))


def frame_of(size: tuple[int, int], number: int, generated: bool) -> Frame:
    clip = find_clips(DATA, size).test[0].open()
    return Frame(clip.frames([number])[0], clip.name, number, generated)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_true_points_of_real_frames(size: tuple[int, int]) -> None:
    estimator = FigurePoints(DATA, size)
    found = estimator.keypoints(frame_of(size, 3, generated=False))
    assert found is not None
    clip = find_clips(DATA, size).test[0].open()
    points, joints = found.points.reshape(10, 5, 2), (clip.keypoints([3])[0] + 1) / 2 * (size[1] - 1, size[0] - 1)
    # The head's middle point lies near the joint called head, by its definition.
    head = estimator.labels.index("head_middle")
    assert np.linalg.norm(found.points[head] - joints[0]) < 0.1 * min(size)
    np.testing.assert_allclose(points[:, 4], (points[:, 0] + points[:, 1]) / 2, atol=1e-9)
    assert len(estimator.labels) == len(found.points) == len(found.present) == 50


def test_detector_error_is_what_the_docs_say() -> None:
    assert 0.5 < FigurePoints(DATA, (64, 64)).detector_error < 1.5


@pytest.mark.parametrize(("size", "pixels"), [((64, 64), 2.0), ((128, 128), 4.0), ((64, 96), 4.0), ((96, 64), 4.0)])
def test_detected_points_fit_the_true_ones(size: tuple[int, int], pixels: float) -> None:
    estimator = FigurePoints(DATA, size)
    real = estimator.keypoints(frame_of(size, 0, generated=False))
    detected = estimator.keypoints(frame_of(size, 0, generated=True))
    assert real is not None
    assert detected is not None
    offset = (detected.points - real.points)[real.present]
    assert np.linalg.norm(offset, axis=1).mean() < pixels
    assert np.abs(offset).max() > 0


def test_detection_looks_at_the_image() -> None:
    estimator = FigurePoints(DATA, (64, 64))
    still = frame_of((64, 64), 0, generated=True)
    shift = np.array([[1, 0, 3], [0, 1, 0]], np.float32)
    image = cv2.warpAffine(still.image, shift, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    here = estimator.keypoints(still)
    there = estimator.keypoints(Frame(image, still.clip, 0, True))
    assert here is not None
    assert there is not None
    np.testing.assert_allclose((there.points - here.points).mean(axis=0), [3, 0], atol=1.0)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"data\.synthetic"):
        FigurePoints(DataConfig(root="videos"), (64, 64))
    estimator = FigurePoints(DATA, (64, 64))
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(DataError, match="stranger is not one of the synthetic figures"):
        estimator.keypoints(Frame(image, "stranger", 0, False))
    with pytest.raises(DataError, match="has frames 0 to 3, not 9"):
        estimator.keypoints(Frame(image, find_clips(DATA, (64, 64)).test[0].name, 9, False))
    with pytest.raises(DataError, match="must be"):
        estimator.keypoints(Frame(image[:32], "stranger", 0, True))
