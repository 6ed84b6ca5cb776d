"""Estimators on enlarged frames: detectors made for photographs miss what is a few pixels wide."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from lami.errors import ConfigError
from lami.evaluation.estimators.base import Frame, IdentityEstimator, KeypointEstimator, Keypoints


class _Enlarging:
    def __init__(self, estimator: KeypointEstimator | IdentityEstimator, factor: int) -> None:
        if factor < 1:
            raise ConfigError(f"frames can be enlarged 1 time or more before detection, not {factor} times")
        self._factor = factor
        self.name = f"{estimator.name} on frames enlarged {factor} times"
        self.version = estimator.version

    def _enlarge(self, frame: Frame) -> Frame:
        height, width = frame.image.shape[:2]
        size = (width * self._factor, height * self._factor)
        return replace(frame, image=cv2.resize(frame.image, size, interpolation=cv2.INTER_CUBIC))


class EnlargedKeypoints(_Enlarging):
    """Bicubically enlarged frames for `estimator`, whose points come back in pixels of the original frame.

    Raises:
        ConfigError: `factor` is less than 1.
    """

    def __init__(self, estimator: KeypointEstimator, factor: int) -> None:
        super().__init__(estimator, factor)
        self._estimator = estimator
        self.labels = estimator.labels

    def keypoints(self, frame: Frame) -> Keypoints | None:
        found = self._estimator.keypoints(self._enlarge(frame))
        if found is None:
            return None
        # The borders of the images coincide, not the centres of their corner pixels.
        return replace(found, points=(found.points + 0.5) / self._factor - 0.5)


class EnlargedIdentity(_Enlarging):
    """Bicubically enlarged frames for `estimator`.

    Raises:
        ConfigError: `factor` is less than 1.
    """

    def __init__(self, estimator: IdentityEstimator, factor: int) -> None:
        super().__init__(estimator, factor)
        self._estimator = estimator

    def embedding(self, frame: Frame) -> np.ndarray | None:
        return self._estimator.embedding(self._enlarge(frame))
