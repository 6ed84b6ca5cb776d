"""Contribution maps and splines blended into a flow."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    logits = inputs.logits(size, size.side)
    arguments = (logits, *inputs.keypoints(size), inputs.background(size.batch))
    return Case(arguments, ops.blend_flow, eager.blend_flow)


BENCHMARK = Benchmark(
    "blend_flow",
    setup,
    cpu={"B=4, K=10, N=5, 64x64": Aim(forward={"eager": 8}, both={"eager": 5})},
    cuda={"B=28, K=10, N=5, 64x64": Aim(Size(batch=28), both={"eager": 10, "torch.compile": 3})},
    uses=("batch", "side", "splines", "dtype", "layout"),
    limits="One logarithm for each pixel, spline and control point, forwards and again backwards.",
)
