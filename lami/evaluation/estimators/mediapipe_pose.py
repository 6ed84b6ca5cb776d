"""Body pose with MediaPipe: 33 points of one person, on CPUs.

Releases after 0.10.21 contain neither the models nor the interface `solutions`.
"""

from __future__ import annotations

import cv2
import numpy as np

from lami.errors import ConfigError
from lami.evaluation.estimators.base import Frame, Keypoints

_ADVICE = (
    "run pip install --no-deps mediapipe==0.10.21, then pip install absl-py attrs flatbuffers matplotlib "
    "'protobuf>=6.31.1,<7'"
)

_VISIBILITY = 0.5


class MediaPipePose:
    """33 points of the person that MediaPipe's full model (complexity 1) finds; each frame is taken as a still.

    Points that the model guesses outside the frame, or calls less visible than `visibility`, are absent. The model
    looks for people with room around them: in frames that they fill it misses many, and hallucinates others. So its
    input has a margin, in which the border pixels are repeated (docs/evaluation.md has figures).

    Args:
        visibility: in [0, 1].
        margin: width on each side, as a part of the frame's.

    Raises:
        ConfigError: MediaPipe is not installed, or in a version without models.
    """

    def __init__(self, visibility: float = _VISIBILITY, margin: float = 0.75) -> None:
        try:
            import mediapipe
        except ImportError as error:
            raise ConfigError(f"the estimator mediapipe needs MediaPipe 0.10.21: {_ADVICE}") from error
        if not hasattr(mediapipe, "solutions"):
            raise ConfigError(
                f"the estimator mediapipe needs MediaPipe 0.10.21, for {mediapipe.__version__} has no models: {_ADVICE}"
            )
        pose = mediapipe.solutions.pose
        self.name = f"mediapipe with a margin of {margin:g}"
        if visibility != _VISIBILITY:
            self.name += f" and points from a visibility of {visibility:g} on"
        self.version: str = mediapipe.__version__
        self.labels = tuple(point.name.lower() for point in pose.PoseLandmark)
        self._visibility = visibility
        self._margin = margin
        self._pose = pose.Pose(static_image_mode=True, model_complexity=1)

    def keypoints(self, frame: Frame) -> Keypoints | None:
        height, width = frame.image.shape[:2]
        x, y = round(self._margin * width), round(self._margin * height)
        image = cv2.copyMakeBorder(frame.image, y, y, x, x, cv2.BORDER_REPLICATE)
        found = self._pose.process(image).pose_landmarks
        if found is None:
            return None
        # Shares of the image: 0 and 1 are its borders, half a pixel beyond the centres of the outer pixels.
        shares = np.array([(point.x, point.y) for point in found.landmark], dtype=np.float64)
        points = shares * (width + 2 * x, height + 2 * y) - (x, y)
        inside = ((points >= 0) & (points < (width, height))).all(axis=1)
        visibility = np.array([point.visibility for point in found.landmark])
        return Keypoints(points - 0.5, inside & (visibility >= self._visibility))
