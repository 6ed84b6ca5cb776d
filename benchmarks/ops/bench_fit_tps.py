"""Splines of all motions of a batch at several times."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Benchmark, Case, Inputs, Size, Targets
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    per_time = Size(batch=size.batch * size.times, splines=size.splines, points=size.points)
    return Case(inputs.keypoints(per_time), ops.fit_tps, eager.fit_tps)


BENCHMARK = Benchmark(
    "fit_tps",
    setup,
    named={"120 systems": (Size(batch=4, times=3), Targets(forward=5, both=5))},
    sweep=lambda side, batch: Size(batch=batch),
    sided=False,
    limits="Each system takes about a microsecond; calling an op and recording its gradient takes several.",
)
