"""What estimators of keypoints and identity take and give: one frame in, points or a vector out, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A frame of a clip, real or generated."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    clip: str
    """Name of the clip."""
    number: int
    """In the clip, from 0."""
    generated: bool
    """Made by a model, in contrast to the real frame that it stands for."""


@dataclass(frozen=True)
class Keypoints:
    """Points of one frame, in the order of the estimator's `labels`."""

    points: np.ndarray
    """(P, 2) float64, (x, y) in pixels of the frame, pixel centres at integers. Meaningless where absent."""
    present: np.ndarray
    """(P,) bool."""


class KeypointEstimator(Protocol):
    """Finds the same P points in every frame; frames do not influence each other."""

    @property
    def name(self) -> str:
        """For reports, settings that change the points included."""

    @property
    def version(self) -> str:
        """Of the package, weights or files that the points come from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the P points; empty if they have none."""

    def keypoints(self, frame: Frame) -> Keypoints | None:
        """Points of the frame, None if nothing is found."""


class IdentityEstimator(Protocol):
    """Describes who is seen: embeddings of the same person are near each other."""

    @property
    def name(self) -> str:
        """For reports, settings that change the embedding included."""

    @property
    def version(self) -> str:
        """Of the package, weights or files that the embeddings come from."""

    def embedding(self, frame: Frame) -> np.ndarray | None:
        """(D,) float64, None if nobody is found."""
