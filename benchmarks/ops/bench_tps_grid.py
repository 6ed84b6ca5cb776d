"""Splines evaluated at all pixels."""

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    driving, _ = inputs.keypoints(size)
    theta = inputs.normal(size.batch, size.splines, 2, 3)
    weights = inputs.normal(*driving.shape, scale=0.1)
    return Case(
        (theta, weights, driving),
        lambda *splines: ops.tps_grid(*splines, (size.side, size.side)),
        lambda *splines: eager.tps_grid(*splines, (size.side, size.side)),
        lambda: {"kornia": others.kornia_tps_grid(theta, weights, driving, size.side)},
    )


BENCHMARK = Benchmark(
    "tps_grid",
    setup,
    uses=("batch", "side", "splines"),
    limits="One logarithm for each pixel, spline and control point, forwards and again backwards.",
)
