"""Keypoints at several times."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    driving, source = inputs.keypoints(size)
    times = inputs.uniform(size.batch, size.times, low=0.1, high=0.9)
    return Case((source, driving, times), ops.anytime_keypoints, eager.anytime_keypoints)


BENCHMARK = Benchmark(
    "anytime_keypoints",
    setup,
    uses=("batch", "splines", "times"),
    limits="A few hundred numbers: only calling an op, checking its input and recording its gradient take time.",
)
