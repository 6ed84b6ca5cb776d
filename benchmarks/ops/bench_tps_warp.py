"""Blended flow and the image warped by it."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    image = inputs.maps(size.batch, size.channels, size.side)
    logits = inputs.logits(size, size.flow)
    arguments = (image, logits, *inputs.keypoints(size), inputs.background(size.batch))
    return Case(arguments, ops.tps_warp, eager.tps_warp)


BENCHMARK = Benchmark(
    "tps_warp",
    setup,
    cpu={"image 256x256, flow 64x64": Aim(Size(side=256))},
    uses=("batch", "side", "splines", "channels", "dtype", "layout"),
    limits="One logarithm for each pixel, spline and control point, forwards and again backwards.",
)
