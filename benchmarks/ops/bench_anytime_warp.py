"""All levels of the generator's encoder warped by the flows of several times."""

from benchmarks.ops import eager
from benchmarks.ops.bench_warp import LEVELS
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    b, t = size.batch, size.times
    levels = [(channels, side * size.side // 256) for channels, side in LEVELS]
    features = [inputs.maps(b, channels, side) for channels, side in levels]
    masks = [inputs.mask(b, t, 1, side, side) for _, side in levels]
    return Case((features, inputs.flow(b, t, side=size.flow), masks), ops.anytime_warp, eager.anytime_warp)


BENCHMARK = Benchmark(
    "anytime_warp",
    setup,
    cpu={"3 times, 4 levels of 256x256": Aim(Size(side=256), both={"eager": 3}, memory=0.4)},
    cuda={"3 times, 4 levels of 256x256": Aim(Size(side=256), forward={"eager": 3}, both={"eager": 3})},
    uses=("batch", "side", "times", "dtype", "layout"),
    base=Size(side=64, flow=16),
    limits="Results and their gradients are three times the features: memory bandwidth. Results and gradients of the "
    "features alone are two thirds of the peak of eager PyTorch that takes one time after the other.",
)
