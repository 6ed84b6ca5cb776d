"""Contribution maps and splines blended into a flow."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Benchmark, Case, Inputs, Size, Targets
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    logits = inputs.normal(size.batch, size.splines + 1, size.side, size.side)
    arguments = (logits, *inputs.keypoints(size), inputs.background(size.batch))
    return Case(arguments, ops.blend_flow, eager.blend_flow)


BENCHMARK = Benchmark(
    "blend_flow",
    setup,
    named={"B=4, K=10, N=5, 64x64": (Size(), Targets(forward=8, both=5))},
    limits="One logarithm for each pixel, spline and control point, forwards and again backwards.",
)
