"""68 landmarks of a face with the package face-alignment, which published scores of faces use."""

from __future__ import annotations

import inspect
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from lami.checkpoint import pick_device
from lami.errors import ConfigError, WeightsUnavailableError
from lami.evaluation.estimators.base import Frame, Keypoints
from lami.evaluation.estimators.landmarks68 import LABELS


class FaceAlignmentPoints:
    """68 landmarks of the first face that face-alignment finds, as in published evaluations: 2D, no flipped image.

    The package downloads its weights when it is first used.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; None is `auto`.

    Raises:
        ConfigError: face-alignment is not installed.
        WeightsUnavailableError: its weights are neither here nor downloadable.
    """

    name = "face-alignment"
    labels = LABELS

    def __init__(self, device: str | None = None) -> None:
        try:
            import face_alignment
        except ImportError as error:
            raise ConfigError(
                "the estimator face-alignment needs a package, pip install 'face-alignment>=1.4'"
            ) from error
        self.version = _installed_version()
        # Compiling, the default since 1.5, pays in longer runs than these and needs a compiler.
        parameters = inspect.signature(face_alignment.FaceAlignment).parameters
        compiled = {"compile": False} if "compile" in parameters else {}
        try:
            self._network = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device=str(pick_device(device)), flip_input=False, **compiled
            )
        except OSError as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise WeightsUnavailableError(
                f"the weights of face-alignment cannot be downloaded ({error}); connect once, or put its files "
                f"s3fd-*.pth and 2DFAN4-* into {folder}"
            ) from error

    def keypoints(self, frame: Frame) -> Keypoints | None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No faces were detected")
            faces = self._network.get_landmarks_from_image(np.ascontiguousarray(frame.image))
        if not faces:
            return None
        points = np.asarray(faces[0], dtype=np.float64)
        return Keypoints(points, np.ones(len(points), dtype=bool))


def _installed_version() -> str:
    try:
        return version("face-alignment")
    except PackageNotFoundError:  # a source tree on the path
        return "unknown"
