"""Differences of Gaussians around the keypoints of driving and source."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    driving, source = inputs.keypoints(size)
    points = tuple(kp.detach().flatten(1, 2).requires_grad_() for kp in (driving, source))
    return Case(
        points,
        lambda *keypoints: ops.keypoint_heatmaps(*keypoints, (size.side, size.side)),
        lambda *keypoints: eager.keypoint_heatmaps(*keypoints, (size.side, size.side)),
    )


BENCHMARK = Benchmark(
    "keypoint_heatmaps",
    setup,
    uses=("batch", "side", "splines"),
    limits="The result is written once: memory bandwidth.",
)
