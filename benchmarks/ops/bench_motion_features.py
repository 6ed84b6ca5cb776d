"""The dense motion network's input; gradients as in training: of keypoints and background, not of the image."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    source = inputs.maps(size.batch, size.channels, size.side).detach()
    arguments = (source, *inputs.keypoints(size), inputs.background(size.batch))
    return Case(arguments, ops.motion_features, eager.motion_features)


BENCHMARK = Benchmark(
    "motion_features",
    setup,
    cpu={"B=4, K=10, N=5, 64x64": Aim(forward={"eager": 10}, both={"eager": 6})},
    cuda={"B=28, K=10, N=5, 64x64": Aim(Size(batch=28), both={"eager": 10, "torch.compile": 3})},
    uses=("batch", "side", "splines", "channels", "dtype", "layout"),
    limits="One logarithm for each pixel, spline and control point, and reads of the source at scattered places.",
)
