"""Faces with dlib: 68 landmarks and a 128-dimensional embedding, on CPUs.

The weights come with the package face-recognition-models. Those of the landmarks were trained on iBUG 300-W, whose
terms exclude commercial use.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lami.errors import ConfigError
from lami.evaluation.estimators.base import Frame, Keypoints
from lami.evaluation.estimators.landmarks68 import LABELS

_CHIP = 150
"""Pixels a side of the images that the embedding network takes."""


class _FaceFinder:
    """Landmarks of the most confident face; never an earlier frame's, so that missing rates are honest."""

    def __init__(self) -> None:
        dlib, models = _import_dlib()
        self.version = _version(dlib)
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))

    def find(self, image: np.ndarray) -> Any | None:
        # Enlarging twice finds faces of 40 pixels; 80 is the least without it.
        boxes, scores, _ = self._detector.run(image, 1, 0.0)
        return self._predictor(image, boxes[int(np.argmax(scores))]) if boxes else None


class DlibLandmarks:
    """68 landmarks of a face in whole pixels, for dlib rounds them: enlarge small frames (see `EnlargedKeypoints`).

    Raises:
        ConfigError: dlib or its weights are not installed.
    """

    name = "dlib"
    labels = LABELS

    def __init__(self) -> None:
        self._finder = _FaceFinder()
        self.version = self._finder.version

    def keypoints(self, frame: Frame) -> Keypoints | None:
        face = self._finder.find(np.ascontiguousarray(frame.image))
        if face is None:
            return None
        points = np.array([(point.x, point.y) for point in face.parts()], dtype=np.float64)
        return Keypoints(points, _inside(points, frame.image))


class DlibIdentity:
    """128-dimensional embedding of a face; dlib's authors call faces less than 0.6 apart the same person.

    Args:
        aligned: cut the face out upright by its landmarks, and find nobody without a face. Otherwise embed the whole
            frame, squashed to 150x150: always a result, further from what the network was trained on.

    Raises:
        ConfigError: dlib or its weights are not installed.
    """

    def __init__(self, aligned: bool = True) -> None:
        dlib, models = _import_dlib()
        self.name = "dlib" if aligned else "dlib-whole-frame"
        self.version = _version(dlib)
        self._finder = _FaceFinder() if aligned else None
        self._network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def embedding(self, frame: Frame) -> np.ndarray | None:
        image = np.ascontiguousarray(frame.image)
        if self._finder is None:
            shrinks = image.shape[0] * image.shape[1] > _CHIP**2
            chip = cv2.resize(image, (_CHIP, _CHIP), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
            return np.array(self._network.compute_face_descriptor(chip), dtype=np.float64)
        face = self._finder.find(image)
        if face is None:
            return None
        return np.array(self._network.compute_face_descriptor(image, face), dtype=np.float64)


def _inside(points: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Which points (P, 2) lie on a pixel of the image."""
    height, width = image.shape[:2]
    inside: np.ndarray = (points >= -0.5) & (points < (width - 0.5, height - 0.5))
    return np.all(inside, axis=1)


def _import_dlib() -> tuple[Any, Path]:
    """dlib, and the folder of the weights."""
    # Found without an import, which needs the module pkg_resources that setuptools no longer has.
    models = importlib.util.find_spec("face_recognition_models")
    try:
        import dlib
    except ImportError as error:
        raise ConfigError(_ADVICE) from error
    if models is None or models.origin is None:
        raise ConfigError(_ADVICE)
    return dlib, Path(models.origin).parent / "models"


_ADVICE = "the estimator dlib needs dlib and its weights, pip install 'lami[eval]' or dlib-bin face-recognition-models"


def _version(dlib: Any) -> str:
    return f"{dlib.__version__}, face-recognition-models {version('face-recognition-models')}"
