"""The dense motion network's input at several times."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    source = inputs.maps(size.batch, size.channels, size.side).detach()
    driving, kp_source = inputs.keypoints(size)
    times = inputs.uniform(size.batch, size.times, low=0.1, high=0.9).detach()
    arguments = (source, kp_source, driving, times, inputs.background(size.batch, size.times))
    return Case(arguments, ops.anytime_motion_features, eager.anytime_motion_features)


BENCHMARK = Benchmark(
    "anytime_motion_features",
    setup,
    cpu={"B=4, T=3, K=10, N=5, 64x64": Aim()},
    uses=("batch", "side", "splines", "times", "channels", "dtype", "layout"),
    limits="One logarithm for each pixel, time, spline and control point, and reads of the source at scattered places.",
)
