"""face-alignment, with a module in its place: its weights are not here. The signatures are those of release 1.5."""

from __future__ import annotations

import sys
import types
import urllib.error
import warnings
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch

from lami.errors import WeightsUnavailableError
from lami.evaluation.estimators import Frame
from lami.evaluation.estimators.face_alignment_points import FaceAlignmentPoints

LANDMARKS = np.arange(136, dtype=np.float32).reshape(68, 2)
made: dict[str, Any] = {}


class LandmarksType(IntEnum):
    TWO_D = 1
    THREE_D = 3


class FaceAlignment:
    """Finds two faces in bright images and none in dark ones."""

    def __init__(
        self,
        landmarks_type: LandmarksType,
        network_size: int = 4,
        device: str = "cuda",
        dtype: torch.dtype = torch.float32,
        flip_input: bool = True,
        face_detector: str = "sfd",
        face_detector_kwargs: dict[str, Any] | None = None,
        verbose: bool = False,
        compile: bool = True,
        max_batch_size: int = 1,
    ) -> None:
        made.update(landmarks_type=landmarks_type, device=device, flip_input=flip_input, compile=compile)

    def get_landmarks_from_image(
        self,
        image_or_path: np.ndarray,
        detected_faces: list[np.ndarray] | None = None,
        return_bboxes: bool = False,
        return_landmark_score: bool = False,
    ) -> list[np.ndarray] | None:
        assert image_or_path.flags.c_contiguous
        if image_or_path.mean() < 1:
            warnings.warn("No faces were detected.", stacklevel=2)
            return None
        return [LANDMARKS, LANDMARKS + 1]


class OlderFaceAlignment(FaceAlignment):
    def __init__(self, landmarks_type: LandmarksType, device: str = "cuda", flip_input: bool = True) -> None:
        super().__init__(landmarks_type, device=device, flip_input=flip_input)


class OfflineFaceAlignment(FaceAlignment):
    def __init__(self, landmarks_type: LandmarksType, **options: Any) -> None:
        raise urllib.error.URLError("Name or service not known")


def install(monkeypatch: pytest.MonkeyPatch, network: type[FaceAlignment]) -> None:
    module = types.ModuleType("face_alignment")
    module.LandmarksType, module.FaceAlignment = LandmarksType, network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    made.clear()


def frame(value: int) -> Frame:
    return Frame(np.full((8, 16, 3), value, np.uint8)[:, ::2], "clip", 0, True)


def test_first_face(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FaceAlignment)
    estimator = FaceAlignmentPoints("cpu")
    assert made == {"landmarks_type": LandmarksType.TWO_D, "device": "cpu", "flip_input": False, "compile": False}
    found = estimator.keypoints(frame(200))
    assert found is not None
    np.testing.assert_array_equal(found.points, LANDMARKS)
    assert found.points.dtype == np.float64
    assert found.present.shape == (68,)
    assert found.present.all()
    assert len(set(estimator.labels)) == 68


def test_no_face_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FaceAlignment)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FaceAlignmentPoints("cpu").keypoints(frame(0)) is None


def test_release_without_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, OlderFaceAlignment)
    FaceAlignmentPoints("cpu")
    assert made["flip_input"] is False


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, OfflineFaceAlignment)
    with pytest.raises(WeightsUnavailableError, match=r"s3fd-\*\.pth .* into .*checkpoints"):
        FaceAlignmentPoints("cpu")
