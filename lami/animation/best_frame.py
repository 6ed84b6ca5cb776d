"""The driving frame whose pose is nearest to the source's, found with the model's own keypoints: any object will do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from lami.errors import DataError
from lami.pose import pose_distances


def find_best_frame(kp_source: Tensor, keypoints: Iterable[Tensor]) -> int:
    """Number of the frame to refer to in relative mode; the earliest of several equal ones.

    Frames are generated independently of each other, so taking this frame as the reference is the same as animating
    forward from it, backward before it, and joining the two.

    Args:
        kp_source: keypoints of the source, (1, K, N, 2).
        keypoints: those of the driving frames, in batches (B, K, N, 2).

    Raises:
        DataError: there are no frames.
    """
    distances = [distance for batch in keypoints for distance in pose_distances(kp_source, batch).tolist()]
    if not distances:
        raise DataError("the driving video has no frames to search for the best one; give another video")
    return int(np.argmin(distances))
