"""Bilinear sampling; the other side is PyTorch's own kernel."""

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    arguments = (inputs.maps(size.batch, size.channels, size.side), inputs.flow(size.batch, side=size.side))
    return Case(
        arguments,
        lambda *tensors: ops.grid_sample(*tensors, align_corners=True),
        eager.grid_sample,
        lambda: {"flag_gems": others.flag_gems_grid_sample(*arguments)},
    )


BENCHMARK = Benchmark(
    "grid_sample",
    setup,
    uses=("batch", "side", "channels", "layout"),
    base=Size(channels=64),
    limits="PyTorch's kernel does the same work: memory bandwidth bounds large calls, calling an op small ones, and "
    "for few channels PyTorch's gathers several pixels with an instruction.",
)
