"""Differentiable warping ops.

Coordinates are (x, y) in [-1, 1] with `align_corners=True` (-1 and 1 are the centres of the outermost pixels) unless a
parameter says otherwise; a flow is a backward sampling grid: for each target pixel, where to read in the source.
Letters in shapes: B batch, T times, K splines, N control points of a spline, C channels, (H, W) image or feature size,
(h, w) flow size.
"""

from lami.ops.reference import (
    anytime_keypoints,
    anytime_motion_features,
    anytime_warp,
    blend_flow,
    fit_tps,
    grid_sample,
    keypoint_heatmaps,
    motion_features,
    tps_grid,
    tps_points,
    warp,
)

__all__ = [
    "anytime_keypoints",
    "anytime_motion_features",
    "anytime_warp",
    "blend_flow",
    "fit_tps",
    "grid_sample",
    "keypoint_heatmaps",
    "motion_features",
    "tps_grid",
    "tps_points",
    "warp",
]
