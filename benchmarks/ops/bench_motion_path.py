"""All ops of a single stage: motion features, blended flow, and the four levels of the generator's encoder.

Their number, not their work, decides how long the CPU is busy with launching them.
"""

from typing import Any

from torch import Tensor

from benchmarks.ops import bench_dense_motion, eager
from benchmarks.ops.bench_warp import LEVELS
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def fused(levels: list[Tensor], mask: Tensor, *motion: Tensor) -> tuple[Any, ...]:
    features, flow, contributions = bench_dense_motion.fused(*motion)
    return features, contributions, *(ops.warp(level, flow, mask) for level in levels)


def composed(levels: list[Tensor], mask: Tensor, *motion: Tensor) -> tuple[Any, ...]:
    features, flow, contributions = bench_dense_motion.shared_grids(*motion)
    return features, contributions, *(eager.warp(level, flow, mask) for level in levels)


def setup(size: Size, inputs: Inputs) -> Case:
    levels = [inputs.maps(size.batch, channels, side * size.side // LEVELS[0][1]) for channels, side in LEVELS]
    mask = inputs.mask(size.batch, 1, size.flow, size.flow)
    motion = bench_dense_motion.setup(Size(batch=size.batch, side=size.flow), inputs).arguments
    return Case((levels, mask, *motion), fused, composed)


BENCHMARK = Benchmark(
    "motion_path",
    setup,
    cpu={"image 256x256": Aim(Size(batch=1, side=256))},
    cuda={"image 256x256": Aim(Size(batch=1, side=256), host_us=60)},
    uses=("batch",),
    base=Size(batch=1, side=256),
    limits="Six ops, each of which is called, checked and launched: tens of microseconds of the CPU on a GPU.",
    op="warp",
)
