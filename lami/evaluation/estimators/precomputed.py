"""Points and embeddings that detectors elsewhere have written, one file for the real and one for the generated frames.

`lami.evaluation.estimators.tables` describes the files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from lami.errors import DataError
from lami.evaluation.estimators.base import Frame, Keypoints
from lami.evaluation.estimators.tables import FrameTable, read_embeddings, read_keypoints


class PrecomputedKeypoints:
    """Keypoints from files. A frame without any point that is present is one in which nothing was found.

    Raises:
        DataError: a file cannot be used, the two have different points, or a clip is asked for that its file lacks.
    """

    name = "precomputed"

    def __init__(self, real: Path, generated: Path) -> None:
        self._real, self._generated = read_keypoints(real), read_keypoints(generated)
        _check_alike(self._real, self._generated, "points a frame")
        if self._real.labels and self._generated.labels and self._real.labels != self._generated.labels:
            raise DataError(f"the labels of {real} and {generated} differ, write both with the same detector")
        self.labels = self._real.labels or self._generated.labels
        self.version = _digest(real, generated)

    def keypoints(self, frame: Frame) -> Keypoints | None:
        points = (self._generated if frame.generated else self._real).row(frame.clip, frame.number)
        if points is None:
            return None
        present = np.isfinite(points).all(axis=1)
        return Keypoints(points, present) if present.any() else None


class PrecomputedIdentity:
    """Embeddings from files.

    Raises:
        DataError: a file cannot be used, the two differ in size, or a clip is asked for that its file lacks.
    """

    name = "precomputed"

    def __init__(self, real: Path, generated: Path) -> None:
        self._real, self._generated = read_embeddings(real), read_embeddings(generated)
        _check_alike(self._real, self._generated, "components an embedding")
        self.version = _digest(real, generated)

    def embedding(self, frame: Frame) -> np.ndarray | None:
        vector = (self._generated if frame.generated else self._real).row(frame.clip, frame.number)
        return None if vector is None or np.isnan(vector).all() else vector


def _check_alike(real: FrameTable, generated: FrameTable, what: str) -> None:
    counts = real.values.shape[1], generated.values.shape[1]
    if counts[0] != counts[1]:
        raise DataError(
            f"{real.path} has {counts[0]} {what} and {generated.path} {counts[1]}, write both with the same detector"
        )


def _digest(real: Path, generated: Path) -> str:
    """Beginnings of the checksums of both files."""
    real_sum, generated_sum = (hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in (real, generated))
    return f"sha256 {real_sum} (real), {generated_sum} (generated)"
