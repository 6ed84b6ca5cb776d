"""`motion_features` and `blend_flow` one after the other, as in a model.

TPSMM evaluates the splines once for both and keeps the grids; the fused ops evaluate them twice and keep nothing. The
two ops' own benchmarks charge eager PyTorch with the splines each time; this one does not.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.ops import eager
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def fused(source: Tensor, logits: Tensor, *motion: Tensor) -> tuple[Any, ...]:
    return ops.motion_features(source, *motion), *ops.blend_flow(logits, *motion)


def shared_grids(source: Tensor, logits: Tensor, driving: Tensor, kp_source: Tensor, background: Tensor) -> Any:
    size = (source.shape[2], source.shape[3])
    grids = eager.transformations(driving, kp_source, background, size)
    heatmaps = eager.keypoint_heatmaps(driving.flatten(1, 2), kp_source.flatten(1, 2), size)
    return torch.cat((heatmaps, eager.deform(source, grids)), dim=1), *eager.blend(logits, grids)


def setup(size: Size, inputs: Inputs) -> Case:
    source = inputs.maps(size.batch, size.channels, size.side).detach()
    logits = inputs.logits(size, size.side)
    return Case((source, logits, *inputs.keypoints(size), inputs.background(size.batch)), fused, shared_grids)


BENCHMARK = Benchmark(
    "dense_motion",
    setup,
    cpu={"B=4, K=10, N=5, 64x64": Aim()},
    cuda={"B=28, K=10, N=5, 64x64": Aim(Size(batch=28))},
    uses=("batch", "side", "splines", "channels", "dtype", "layout"),
    limits="Logarithms: the splines are evaluated twice forwards and twice backwards, in eager PyTorch once each.",
    op="motion_features",
)
