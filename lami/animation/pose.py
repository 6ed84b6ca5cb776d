"""Sizes of objects and distances of poses, by keypoints alone."""

from __future__ import annotations

import logging

import cv2
from torch import Tensor

from lami.pose import SeenPoses, pose_distances

logger = logging.getLogger(__name__)

_SMALLEST_AREA = 1e-6
_USUAL = 0.99
"""Share of training pairs that a pose must be farther than to be called unusual."""


def hull_area(keypoints: Tensor) -> float:
    """Area of the convex hull of all keypoints (..., 2) of one image; the whole image has area 4."""
    points = keypoints.detach().reshape(-1, 2).float().cpu().numpy()
    return float(cv2.contourArea(cv2.convexHull(points)))


def relative_scale(kp_source: Tensor, kp_reference: Tensor) -> float:
    """How much larger the source's object is than the reference's; 1 where either has no extent."""
    source, reference = hull_area(kp_source), hull_area(kp_reference)
    return (source / reference) ** 0.5 if min(source, reference) > _SMALLEST_AREA else 1.0


def pose_distance(kp_first: Tensor, kp_second: Tensor) -> float:
    """Mean distance of corresponding keypoints (..., 2) of one image each, wherever it is and however large: 0 for the
    same pose, 1 is as far as keypoints are from their centre (root mean square)."""
    return float(pose_distances(*(keypoints.detach().reshape(1, 1, -1, 2) for keypoints in (kp_first, kp_second))))


def tell_farthest(distance: float, seen: SeenPoses | None) -> None:
    """Log how far the source was moved, and warn where training saw hardly any like it."""
    what = "the pose distance between the source and the farthest that it was moved"
    tell_distance(what, distance, seen, "expect flaws there, or move less (a strength below 1)")


def tell_distance(what: str, distance: float, seen: SeenPoses | None, advice: str) -> None:
    """Log a pose distance beside those of training, and warn with advice if it is larger than nearly all of them.

    what: `the pose distance between A and B`. seen: None where the model's file does not tell, and nothing can warn.
    """
    if seen is None:
        logger.info(
            "%s is %.2f; what is usual for this model is not known, its file tells nothing of it", what, distance
        )
        return
    usual = seen.percentile(_USUAL)
    logger.info(
        "%s is %.2f; in training half of the pairs were below %.2f, 99 %% below %.2f",
        what,
        distance,
        seen.percentile(0.5),
        usual,
    )
    if distance > usual:
        logger.warning("%s (%.2f) is larger than in 99 %% of the training (%.2f): %s", what, distance, usual, advice)
