"""Differentiable warping ops.

Coordinates are (x, y) in [-1, 1] with `align_corners=True` (-1 and 1 are the centres of the outermost pixels) unless a
parameter says otherwise; a flow is a backward sampling grid: for each target pixel, where to read in the source.
Letters in shapes: B batch, T times, K splines, N control points of a spline, C channels, (H, W) image or feature size,
(h, w) flow size.

Each op runs on the fastest backend that is there for its device: `native` (C++ and CUDA), `triton`, or `reference`
(plain PyTorch, the specification). `use_backend`, or the environment variable LAMI_BACKEND, chooses one by name. All
take tensors of any strides, empty batches and fp64, fp32, bf16 and fp16; coordinates, splines and sums are computed in
fp32, or in fp64 if an input is fp64. Backward passes are deterministic on a CPU, and on CUDA under
`torch.use_deterministic_algorithms(True)`, as it is set in the forward pass. They can be differentiated once.
"""

import torch as _torch

from lami.ops import _backend
from lami.ops import _library as _ops
from lami.ops._backend import use_backend
from lami.ops.anytime_keypoints import anytime_keypoints
from lami.ops.anytime_motion_features import anytime_motion_features
from lami.ops.anytime_warp import anytime_warp
from lami.ops.blend_flow import blend_flow
from lami.ops.fit_tps import fit_tps
from lami.ops.grid_sample import grid_sample
from lami.ops.keypoint_heatmaps import keypoint_heatmaps
from lami.ops.motion_features import motion_features
from lami.ops.tps_grid import tps_grid, tps_points
from lami.ops.tps_warp import tps_warp
from lami.ops.warp import warp

if _backend.triton_installed() and (_backend.triton_interpreted() or _torch.cuda.is_available()):
    _ops.register_triton()
_backend.look(_ops.registered())

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
    "tps_warp",
    "use_backend",
    "warp",
]
