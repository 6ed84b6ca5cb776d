"""`anytime_warp` beside eager PyTorch that makes one batch of all times, the features repeated for each."""

from dataclasses import replace

from benchmarks.ops import bench_anytime_warp, eager
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs


def setup(size: Size, inputs: Inputs) -> Case:
    return replace(bench_anytime_warp.setup(size, inputs), eager=eager.repeated_warp)


BENCHMARK: Benchmark = replace(
    bench_anytime_warp.BENCHMARK, name="anytime_warp_repeated", setup=setup, op="anytime_warp"
)
