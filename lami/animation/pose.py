"""Comparing poses by keypoints alone, whatever the object: position and size are taken out."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

_SMALLEST_AREA = 1e-6


def hull_area(keypoints: Tensor) -> float:
    """Area of the convex hull of all keypoints (..., 2) of one image; the whole image has area 4."""
    points = keypoints.detach().reshape(-1, 2).float().cpu().numpy()
    return float(cv2.contourArea(cv2.convexHull(points)))


def relative_scale(kp_source: Tensor, kp_reference: Tensor) -> float:
    """How much larger the source's object is than the reference's; 1 where either has no extent."""
    source, reference = hull_area(kp_source), hull_area(kp_reference)
    return (source / reference) ** 0.5 if min(source, reference) > _SMALLEST_AREA else 1.0


def normalized_pose(keypoints: Tensor) -> np.ndarray:
    """Keypoints (..., 2) of one image, centred and divided by the root of their hull area; float64 (P, 2)."""
    points = keypoints.detach().reshape(-1, 2).double().cpu().numpy()
    return (points - points.mean(axis=0)) / max(hull_area(keypoints), _SMALLEST_AREA) ** 0.5


def pose_distance(kp_first: Tensor, kp_second: Tensor) -> float:
    """Mean distance of corresponding keypoints after normalisation: 0 for the same pose, 1 is as long as the object."""
    offsets = normalized_pose(kp_first) - normalized_pose(kp_second)
    return float(np.linalg.norm(offsets, axis=-1).mean())
